//! Runs a program that links Neap for a moment, to be told what it can train or how fast. It gets nothing to read but the
//! question, has a time limit, and no more than so much of what it says is listened to.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use neap_runtime::codec;
use neap_runtime::wire::training::TrainLaunch;
use neap_runtime::workload::{ENTRIES_ARGUMENT, LAUNCH_BYTES_MAX, MEASURE_ARGUMENT};
use neap_scheduler::spec::ArtifactFault;
use neap_training::measure::Measured;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::http::body::{MeasuredBody, ProgramBody};

/// How long a program may take to say what it can train.
const ENTRIES_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to read a job's data, before what it measures.
const DATA_TIMEOUT: Duration = Duration::from_secs(60);

/// What is listened to at most.
const SAID_BYTES_MAX: u64 = 1 << 20;

/// What is shown at most of what went wrong.
const SHOWN_CHARS_MAX: usize = 300;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the program can train.
///
/// # Errors
///
/// Why it did not say so.
pub(super) fn entries(path: &Path) -> Result<ProgramBody, ArtifactFault> {
    let fault = |message: String| ArtifactFault {
        message: format!("{} {message}", path.display()),
        help: "its `main` must begin with `neap::worker_main(entries)`, or be `neap::main(entries)`".to_owned(),
    };
    let said = ask(path, ENTRIES_ARGUMENT, &[], ENTRIES_TIMEOUT).map_err(fault)?;
    serde_json::from_slice(&said).map_err(|error| fault(format!("says something else than its entries: {error}")))
}

/// How fast the program trains a job here.
///
/// # Errors
///
/// Why it did not say so.
pub(super) fn measure(path: &Path, launch: &TrainLaunch, time: Duration) -> Result<Measured, String> {
    let launch = codec::encode::<_, LAUNCH_BYTES_MAX>(launch).map_err(|error| error.to_string())?;
    let mut question = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_le_bytes().to_vec();
    question.extend_from_slice(&launch);
    let said = ask(path, MEASURE_ARGUMENT, &question, DATA_TIMEOUT + time)?;
    let measured: MeasuredBody =
        serde_json::from_slice(&said).map_err(|error| format!("says something else than how fast it is: {error}"))?;
    Ok(measured.into())
}

fn ask(path: &Path, argument: &str, question: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + limit;
    let mut command = Command::new(path);
    // A group of its own, so that nothing it starts outlives it.
    command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let mut asked = Asked(child);
    let said = listen(asked.0.stdout.take());
    let complained = listen(asked.0.stderr.take());
    if let Some(mut input) = asked.0.stdin.take() {
        let question = question.to_vec();
        // A program that does not read its question says so by what it answers.
        std::thread::spawn(move || input.write_all(&question));
    }
    let status = asked.wait_until(deadline)?.ok_or_else(|| format!("did not answer within {} s", limit.as_secs()))?;
    let answer = |from: &Receiver<Vec<u8>>| from.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    let said = answer(&said).map_err(|_| format!("did not end its answer within {} s", limit.as_secs()))?;
    // Not heard to its end, it has ended badly too.
    if said.len() as u64 > SAID_BYTES_MAX {
        return Err(format!("says more than {SAID_BYTES_MAX} bytes"));
    }
    match status.success() {
        true => Ok(said),
        false => Err(format!("ended with {status}: {}", shown(&answer(&complained).unwrap_or_default()))),
    }
}

/// A program that is asked something. Dropped, it is ended.
struct Asked(Child);

impl Asked {
    fn wait_until(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, String> {
        loop {
            let ended = self.0.try_wait().map_err(|error: io::Error| format!("cannot be waited for: {error}"))?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // Fails where nothing of it is left.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.0.wait();
    }
}

/// Reads in a thread of its own, so that a program that does not end its output is not waited for.
fn listen(output: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(output) = output {
            let _ = output.take(SAID_BYTES_MAX + 1).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    heard
}

/// The beginning of what a program complained about, as one line.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = line.chars().filter(|letter| !letter.is_control()).take(SHOWN_CHARS_MAX).collect();
    if shown.is_empty() { "it said nothing".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[test]
    fn what_a_program_does_instead_of_answering_is_said() {
        let refused = |text: &str| {
            let (_folder, path) = program(text);
            ask(&path, "neap-entries", b"", Duration::from_secs(20)).unwrap_err()
        };
        assert_eq!(refused("echo no such  command >&2; exit 3"), "ended with exit status: 3: no such command");
        assert!(refused("head -c 2000000 /dev/zero").contains("says more than 1048576 bytes"));
        let (_folder, path) = program("sleep 60");
        let late = ask(&path, "neap-entries", b"", Duration::from_millis(50)).unwrap_err();
        assert!(late.starts_with("did not answer within"), "{late}");
        let (_folder, path) = program("echo hello");
        assert!(entries(&path).unwrap_err().message.contains("says something else than its entries"));
    }

    #[test]
    fn the_question_is_read_and_the_answer_heard() {
        let (_folder, path) = program("cat");
        assert_eq!(ask(&path, "neap-measure", b"how fast?", Duration::from_secs(20)).unwrap(), b"how fast?");
    }
}
