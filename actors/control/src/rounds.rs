//! The rounds of the scheduler in which something was decided, one JSON object a line, for replay and comparison with other
//! policies. They are for people and tools: nothing is rebuilt from them, so they are not part of the journal and are not
//! waited for on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use neap_scheduler::policy::{Plan, Policy, Snapshot};
use neap_scheduler::replay::RoundRecord;

/// A file that has grown to this is kept as the one before, and a new one is begun: weeks of a small cluster.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// The file of rounds.
pub(crate) struct RoundLog {
    path: PathBuf,
    open: Option<File>,
    /// Whether the trouble with the file was told.
    told: bool,
}

impl RoundLog {
    /// Appends to the file at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, open: None, told: false }
    }

    /// Writes a round down, if it does anything.
    pub(crate) fn record(&mut self, policy: &dyn Policy, snapshot: &Snapshot, plan: &Plan) {
        if plan.actions.is_empty() {
            return;
        }
        let line = RoundRecord::new(policy, snapshot, plan).to_line();
        if let Err(error) = self.append(&line) {
            self.open = None;
            if !std::mem::replace(&mut self.told, true) {
                let path = self.path.display();
                tracing::warn!(%error, %path, "rounds are not written down; nothing else is affected");
            }
        }
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        if self.open.as_ref().map(File::metadata).transpose()?.is_some_and(|data| data.len() >= FILE_BYTES_MAX) {
            fs::rename(&self.path, self.path.with_extension("old.jsonl"))?;
            self.open = None;
        }
        let file = match &mut self.open {
            Some(file) => file,
            None => {
                cut_torn_line(&self.path)?;
                self.open.insert(OpenOptions::new().create(true).append(true).open(&self.path)?)
            }
        };
        file.write_all(format!("{line}\n").as_bytes())
    }
}

/// Cuts off what a crash left of the last line, so that the next one does not continue it.
fn cut_torn_line(path: &Path) -> io::Result<()> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole == text.len() {
        return Ok(());
    }
    OpenOptions::new().write(true).open(path)?.set_len(whole as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_crash_cut_short_is_cut_off_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rounds.jsonl");
        for (before, after) in
            [("one\ntw", "one\nthree\n"), ("one\n", "one\nthree\n"), ("on", "three\n"), ("", "three\n")]
        {
            fs::write(&path, before).unwrap();
            RoundLog::new(path.clone()).append("three").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }
}
