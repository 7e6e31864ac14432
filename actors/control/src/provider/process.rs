//! A local node's process, known by its pid and its start time, so that a pid that was used again is never mistaken for
//! it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

const FILE: &str = "process.json";

/// A process that was started once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeProcess {
    pid: u32,
    /// Clock ticks from boot to its start: field 22 of `/proc/<pid>/stat`, proc(5).
    started_ticks: u64,
}

impl NodeProcess {
    /// The running process of this pid.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started_ticks: started_ticks(pid)? })
    }

    /// The process that was noted in a node's folder.
    pub(super) fn noted_in(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// Notes it in a node's folder, for a control plane that comes later.
    pub(super) fn note_in(self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(FILE), serde_json::to_vec(&self)?)
    }

    /// Whether it still runs.
    pub(super) fn runs(self) -> bool {
        started_ticks(self.pid) == Some(self.started_ticks)
    }

    /// Sends a signal, if it still runs.
    pub(super) fn signal(self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.runs())
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, pid = self.pid, "signal not sent");
        }
    }
}

/// The start time of a process that is there and not a zombie.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and brackets; the fields start behind its last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // State is field 3; the start time is field 22.
    let ticks = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_until_it_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = NodeProcess::of(child.id()).unwrap();
        assert!(process.runs());
        process.signal(Signal::KILL);
        child.wait().unwrap();
        assert!(!process.runs());
        assert!(!NodeProcess { started_ticks: 1, ..NodeProcess::of(std::process::id()).unwrap() }.runs());
    }
}
