//! Reading step functions: two columns, a time and the number of instances from then on.

use serde::Deserialize;

use crate::sim::fault::{WorldError, in_order, not_negative};
use crate::sim::table::read_rows;

/// Longer recordings do not exist; the number is large because some count seconds.
const TIME_MAX: f64 = 1e9;

#[derive(Debug, Deserialize)]
struct RawStep {
    #[serde(rename = "hours_since_start")]
    time: f64,
    active_instances: u32,
}

/// Reads `hours_since_start,active_instances`. Two rows at one time are a jump; the later one holds. The unit of the
/// time is the file's own, for some recordings were written in seconds under that name.
///
/// # Errors
///
/// The first row that does not fit the columns, or whose time is before that of the row above.
pub fn read_step_function(file: &str, text: &str) -> Result<Vec<(f64, u32)>, WorldError> {
    let mut steps: Vec<(f64, u32)> = Vec::new();
    let mut before = 0.0;
    for row in read_rows::<RawStep>(file, text)? {
        let time = not_negative(&row, file, "hours_since_start", row.value.time, TIME_MAX)?;
        in_order(&row, file, "hours_since_start", time, &mut before)?;
        match steps.last_mut() {
            Some(last) if time == last.0 => last.1 = row.value.active_instances,
            _ => steps.push((time, row.value.active_instances)),
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn jumps_keep_the_later_value_and_time_never_goes_back() {
        let head = "hours_since_start,active_instances\n";
        let read = |rows: &str| read_step_function("b.csv", &format!("{head}{rows}"));
        assert_eq!(read("0,0\n1.5,0\n1.5,4\n").unwrap(), [(0.0, 0), (1.5, 4)]);
        let refused = read("0,0\n2,1\n1,1\n").unwrap_err().to_string();
        assert_eq!(refused, "A009 b.csv:4: column hours_since_start: \"1\": is before 2, which comes first");
        assert!(read("0,-1\n").unwrap_err().to_string().contains("column active_instances: \"-1\""));
        assert!(read("nan,1\n").unwrap_err().to_string().starts_with("A002 b.csv:2: column hours_since_start"));
    }
}
