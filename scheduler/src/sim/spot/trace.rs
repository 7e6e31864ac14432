//! Reading recorded zones: one JSON object a line, runs of equal values as `[value, length]`.
//!
//! `avail_rle` or `count_rle` holds instances that could be had in each tick (0 and 1 where only that was recorded),
//! `price_rle` the spot price in dollars per hour. Files of counts carry no prices. Irregular steps, where a recording names
//! them in `gaps`, count as one tick like the others.

use serde::Deserialize;

use crate::model::{MicroUsdPerHour, Millis};
use crate::sim::fault::{FaultCode, WorldError, not_negative, positive, refuse};
use crate::sim::table::{DataError, Row};

/// The price above which a row is taken for a mistake: ten times the dearest machine of the price lists.
const USD_PER_HOUR_MAX: f64 = 10_000.0;

/// Nobody records a market once in more than a day.
const TICK_SECONDS_MAX: f64 = 86_400.0;

/// What was recorded of one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneTrace {
    /// The zone, or the name of the trace.
    pub zone: String,
    /// The type of machine, without remarks.
    pub instance: String,
    /// How long one tick is.
    pub tick: Millis,
    /// Spot instances to be had in each tick.
    pub counts: Vec<u32>,
    /// The spot price in each tick; empty where none was recorded.
    pub spot: Vec<MicroUsdPerHour>,
    /// The price on demand, where one was recorded.
    pub on_demand: Option<MicroUsdPerHour>,
}

impl ZoneTrace {
    /// Whether at least one spot instance could be had in `tick`; none after the end of the recording.
    pub fn available(&self, tick: usize) -> bool {
        self.counts.get(tick).is_some_and(|&count| count > 0)
    }

    /// Length of the recording in ticks.
    pub fn ticks(&self) -> usize {
        self.counts.len()
    }
}

/// One line as written.
#[derive(Debug, Deserialize)]
struct RawZone {
    zone: Option<String>,
    trace: Option<String>,
    #[serde(default)]
    instance: String,
    #[serde(alias = "times_gap_s")]
    gap_s: f64,
    ticks: usize,
    #[serde(alias = "count_rle")]
    avail_rle: Vec<(u32, usize)>,
    #[serde(default)]
    price_rle: Vec<(f64, usize)>,
    on_demand_usd_h: Option<f64>,
}

/// Reads every zone of a file.
///
/// # Errors
///
/// The first line that is not such an object, whose runs do not add up to `ticks`, or that has a price or a tick length
/// that cannot be.
pub fn read_zone_traces(file: &str, text: &str) -> Result<Vec<ZoneTrace>, WorldError> {
    let lines = text.lines().zip(1u64..).filter(|(line, _)| !line.trim().is_empty());
    lines.map(|(line, number)| read_zone(file, line, number)).collect()
}

fn read_zone(file: &str, text: &str, line: u64) -> Result<ZoneTrace, WorldError> {
    let value: RawZone = serde_json::from_str(text).map_err(|error| DataError {
        file: file.to_owned(),
        line,
        column: None,
        value: None,
        why: format!("{error}"),
    })?;
    let row = Row { line, value };
    let raw = &row.value;
    let tick = positive(&row, file, "gap_s", raw.gap_s, TICK_SECONDS_MAX)?;
    let price = |column: &str, usd: f64| -> Result<MicroUsdPerHour, WorldError> {
        let usd = not_negative(&row, file, column, usd, USD_PER_HOUR_MAX)?;
        Ok(MicroUsdPerHour::new((usd * 1e6).round() as u64))
    };
    let counts = expand(file, &row, "avail_rle", &raw.avail_rle)?;
    let spot = if raw.price_rle.is_empty() { Vec::new() } else { expand(file, &row, "price_rle", &raw.price_rle)? };
    Ok(ZoneTrace {
        zone: raw.zone.clone().or_else(|| raw.trace.clone()).unwrap_or_default(),
        instance: raw.instance.split_whitespace().next().unwrap_or_default().to_owned(),
        tick: Millis::new((tick * 1e3).round() as u64),
        counts,
        spot: spot.into_iter().map(|usd| price("price_rle", usd)).collect::<Result<_, _>>()?,
        on_demand: raw.on_demand_usd_h.map(|usd| price("on_demand_usd_h", usd)).transpose()?,
    })
}

/// Writes out runs of equal values; they must fill the recording exactly.
fn expand<T: Copy>(file: &str, row: &Row<RawZone>, column: &str, runs: &[(T, usize)]) -> Result<Vec<T>, WorldError> {
    let total = runs.iter().try_fold(0usize, |total, &(_, length)| total.checked_add(length));
    if total != Some(row.value.ticks) {
        let got = total.map_or("too many".to_owned(), |total| total.to_string());
        let why = format!("the runs make {} ticks", row.value.ticks);
        return Err(refuse(row, file, column, got, FaultCode::Contradiction, &why));
    }
    Ok(runs.iter().flat_map(|&(value, length)| std::iter::repeat_n(value, length)).collect())
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    const GOOD: &str = r#"{"zone":"a","instance":"v (1x)","gap_s":600,"ticks":3,"avail_rle":[[1,2],[0,1]],"price_rle":[[0.5,3]],"on_demand_usd_h":2}"#;

    fn refusal(line: &str) -> String {
        read_zone_traces("z.jsonl", &format!("{GOOD}\n{line}\n")).unwrap_err().to_string()
    }

    #[test]
    fn runs_are_written_out() {
        let zone = &read_zone_traces("z.jsonl", GOOD).unwrap()[0];
        assert_eq!((zone.zone.as_str(), zone.instance.as_str(), zone.tick), ("a", "v", Millis::from_secs(600)));
        assert_eq!(zone.counts, [1, 1, 0]);
        assert_eq!(zone.spot, [MicroUsdPerHour::new(500_000); 3]);
        assert!(zone.available(1) && !zone.available(2) && !zone.available(3));
    }

    #[test]
    fn a_bad_line_names_its_place() {
        let broken = |from: &str, to: &str| refusal(&GOOD.replace(from, to));
        assert_eq!(broken("[0,1]]", "[0,2]]"), "A007 z.jsonl:2: column avail_rle: \"4\": the runs make 3 ticks");
        assert_eq!(broken("[[0.5,3]]", "[[0.5,9]]"), "A007 z.jsonl:2: column price_rle: \"9\": the runs make 3 ticks");
        assert!(broken("[[0.5,3]]", "[[-0.5,3]]").starts_with("A003 z.jsonl:2: column price_rle: \"-0.5\""));
        assert!(broken(":2}", ":2e9}").starts_with("A004 z.jsonl:2: column on_demand_usd_h: \"2000000000\""));
        assert!(broken("600", "0").starts_with("A003 z.jsonl:2: column gap_s: \"0\""));
        assert!(
            broken("[1,2]", "[-1,2]").starts_with("A001 z.jsonl:2: invalid value"),
            "{}",
            broken("[1,2]", "[-1,2]")
        );
        assert!(refusal("{").starts_with("A001 z.jsonl:2: EOF"));
    }
}
