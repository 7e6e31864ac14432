//! A file of rounds, read whole.

use super::{ReplayError, RoundRecord};

/// The rounds of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Each with its line, from 1.
    pub rounds: Vec<(u64, RoundRecord)>,
    /// The line that was cut short while it was written, if the last one was.
    pub torn: Option<u64>,
}

/// A line that is not a round.
#[derive(Debug, thiserror::Error)]
#[error("line {line} cannot be read")]
pub struct RecordingError {
    /// The line, from 1.
    pub line: u64,
    /// Why.
    #[source]
    pub source: ReplayError,
}

impl Recording {
    /// Reads the text of a file. What a crash left of its last line, which then has no end, is left out.
    ///
    /// # Errors
    ///
    /// The first line that is not a round: a broken line in the middle is damage.
    pub fn read(text: &str) -> Result<Self, RecordingError> {
        let mut recording = Self { rounds: Vec::new(), torn: None };
        for (line, number) in text.split_inclusive('\n').zip(1_u64..) {
            match RoundRecord::parse(line.trim_end_matches('\n')) {
                Ok(round) => recording.rounds.push((number, round)),
                Err(ReplayError::Malformed(_)) if !line.ends_with('\n') => recording.torn = Some(number),
                Err(source) => return Err(RecordingError { line: number, source }),
            }
        }
        Ok(recording)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::any_state;
    use crate::policy::{Fifo, decide};

    fn line(seed: u64) -> String {
        let snapshot = any_state(seed);
        RoundRecord::new(&Fifo, &snapshot, &decide(&snapshot)).to_line()
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_left_out_and_damage_is_not() {
        let (one, two) = (line(1), line(2));
        let whole = Recording::read(&format!("{one}\n{two}\n")).unwrap();
        assert_eq!((whole.rounds.len(), whole.rounds[1].0, whole.torn), (2, 2, None));
        assert_eq!(Recording::read(&format!("{one}\n{two}")).unwrap(), whole, "only the end of the line is missing");
        for cut in [1, two.len() / 2, two.len() - 1] {
            let torn = Recording::read(&format!("{one}\n{}", &two[..cut])).unwrap();
            assert_eq!((torn.rounds.len(), torn.torn), (1, Some(2)));
        }
        let broken = Recording::read(&format!("{one}\n{}\n{two}\n", &two[..9])).unwrap_err();
        assert_eq!((broken.line, broken.to_string().as_str()), (2, "line 2 cannot be read"));
        assert!(Recording::read("").unwrap().rounds.is_empty());
    }
}
