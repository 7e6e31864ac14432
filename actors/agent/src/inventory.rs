//! Asks a short-lived child what this node can compute on: everything once, readings of memory and use again and again.
//!
//! Drivers are loaded by the child alone. Whatever becomes of it (it crashes, hangs, or says something else) costs the node
//! its inventory and nothing more.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use neap_runtime::wire::device::{Device, Inventory, limited};
use neap_runtime::workload::{DEVICES_ARGUMENT, READINGS_FLAG};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::devices::with_readings;

/// How long the child may take to find everything: waking a driver takes seconds.
const ALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take for readings only.
const READINGS_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between two readings.
pub(crate) const READ_PAUSE: Duration = Duration::from_secs(10);

/// Readings that may fail in a row; after that nothing is read any more.
const FAILURES_MAX: u32 = 3;

/// What is listened to at most.
const SAID_BYTES_MAX: u64 = 256 << 10;

/// What is shown at most of what the child complained about.
const COMPLAINT_BYTES_MAX: u64 = 300;

/// Why the child did not answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("it cannot be run: {0}")]
    NotRun(#[from] io::Error),
    #[error("it did not answer within {} s", .0.as_secs_f64())]
    Late(Duration),
    #[error("it says more than {SAID_BYTES_MAX} bytes")]
    TooMuch,
    #[error("it ended with {0}: {1}")]
    Ended(ExitStatus, String),
    #[error("it says something else than devices: {0}")]
    Garbage(#[from] serde_json::Error),
}

/// Finds the node's devices and keeps reading them, with a pause in between, until it is aborted or there is nothing to read.
pub(crate) async fn run(program: PathBuf, devices: watch::Sender<Vec<Device>>, pause: Duration) {
    let found = match ask(&program, &[], ALL_TIMEOUT).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the child that looks for devices failed; this node has no inventory of them");
            return;
        }
    };
    found.remarks.iter().for_each(|remark| tracing::warn!(remark, "looking for devices"));
    let gpus = found.devices.iter().filter(|device| device.is_gpu()).count();
    tracing::info!(gpus, devices = found.devices.len(), "devices");
    let mut known = limited(found.devices);
    let mut failures = 0;
    while failures < FAILURES_MAX {
        devices.send_replace(known.clone());
        if !known.iter().any(Device::has_readings) && failures == 0 {
            return;
        }
        tokio::time::sleep(pause).await;
        let readings = match ask(&program, &[READINGS_FLAG], READINGS_TIMEOUT).await {
            Ok(read) => {
                failures = 0;
                read.devices
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "the child that reads devices failed");
                Vec::new()
            }
        };
        known = limited(with_readings(known, readings));
    }
    devices.send_replace(known);
    tracing::warn!("the memory and use of devices are not read any more");
}

/// Runs the child and ends it, whatever it does.
async fn ask(program: &Path, flags: &[&str], limit: Duration) -> Result<Inventory, NoAnswer> {
    let mut command = Command::new(program);
    // A group of its own, so that nothing it starts outlives it. The join token is not its business.
    command.arg(DEVICES_ARGUMENT).args(flags).env_remove("NEAP_JOIN_TOKEN").process_group(0).kill_on_drop(true);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let answer = timeout(limit, answer(&mut child)).await.unwrap_or(Err(NoAnswer::Late(limit)));
    if answer.is_err() {
        // Fails where nothing of it is left.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    }
    answer
}

async fn answer(child: &mut Child) -> Result<Inventory, NoAnswer> {
    let (said, complained) = tokio::join!(said(child.stdout.take()), complained(child.stderr.take()));
    if said.len() as u64 > SAID_BYTES_MAX {
        return Err(NoAnswer::TooMuch);
    }
    let status = child.wait().await?;
    match status.success() {
        true => Ok(serde_json::from_slice(&said)?),
        false => Err(NoAnswer::Ended(status, one_line(&complained))),
    }
}

/// What comes; if it is too much, a byte more than that, and the pipe is closed.
async fn said(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        // What came before an error is all there is.
        let _ = output.take(SAID_BYTES_MAX + 1).read_to_end(&mut bytes).await;
    }
    bytes
}

/// The beginning of what comes. The rest is read too: drivers are talkative, and must not be held up by it.
async fn complained(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        let _ = (&mut output).take(COMPLAINT_BYTES_MAX).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    }
    bytes
}

fn one_line(said: &[u8]) -> String {
    let line = String::from_utf8_lossy(said).split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = line.chars().filter(|letter| !letter.is_control()).collect();
    if shown.is_empty() { "it said nothing".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn program(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    /// As [`ask`]; again while a process that another test is starting still has the file open.
    async fn asked(path: &Path, flags: &[&str], limit: Duration) -> Result<Inventory, NoAnswer> {
        loop {
            match ask(path, flags, limit).await {
                Err(NoAnswer::NotRun(error)) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                answer => return answer,
            }
            tokio::time::sleep(SECOND / 50).await;
        }
    }

    async fn refused(text: &str) -> String {
        let (_folder, path) = program(text);
        asked(&path, &[], 20 * SECOND).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_child_that_crashes_or_prints_garbage_is_an_error() {
        assert_eq!(refused("echo no  driver >&2; exit 3").await, "it ended with exit status: 3: no driver");
        assert!(refused("kill -SEGV $$").await.starts_with("it ended with signal: 11"));
        assert!(refused("echo '{\"devices\": 3}'").await.starts_with("it says something else than devices: "));
        assert!(refused("").await.starts_with("it says something else than devices: "));
        assert_eq!(refused("head -c 3000000 /dev/zero").await, "it says more than 262144 bytes");
        assert!(refused("head -c 3000000 /dev/zero >&2; exit 4").await.starts_with("it ended with"));
    }

    #[tokio::test]
    async fn a_child_that_hangs_is_ended_with_what_it_started() {
        let (folder, path) = program("sleep 1000 & echo $! > \"$0.pid\"; wait");
        let started = Instant::now();
        let error = asked(&path, &[], 5 * SECOND).await.unwrap_err();
        assert_eq!(error.to_string(), "it did not answer within 5 s");
        assert!(started.elapsed() < 60 * SECOND);
        let pid = std::fs::read_to_string(folder.path().join("program.pid")).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        while !(state().is_empty() || state().contains(") Z ")) {
            assert!(started.elapsed() < 60 * SECOND, "{}", state());
            tokio::time::sleep(SECOND / 50).await;
        }
    }

    #[tokio::test]
    async fn the_answer_is_published_and_the_flags_are_handed_on() {
        let device = r#"{"name":"H100","kind":"discrete","vendor_id":4318,"api":null,"driver":null,"bus":null,
            "uuid":null,"memory_bytes":8,"memory_used_bytes":'$used',"busy_percent":null}"#;
        let text =
            format!("used=null; [ \"$2\" = --readings ] && used=5\necho '{{\"devices\":[{device}],\"remarks\":[]}}'");
        let (_folder, path) = program(&text);
        let found = asked(&path, &[READINGS_FLAG], 20 * SECOND).await.unwrap();
        assert_eq!(found.devices[0].memory_used_bytes, Some(5));
        let (sender, devices) = watch::channel(Vec::new());
        // Without readings there is nothing to go on with.
        run(path, sender, SECOND).await;
        assert_eq!((&devices.borrow()[0].name[..], devices.borrow().len()), ("H100", 1));
    }

    #[tokio::test]
    async fn a_failing_child_leaves_a_node_without_devices() {
        let (sender, devices) = watch::channel(Vec::new());
        run(PathBuf::from("/nowhere/neap"), sender, SECOND).await;
        assert!(devices.borrow().is_empty());
    }

    #[tokio::test]
    async fn readings_follow_until_they_fail_again_and_again() {
        let device = r#"{"name":"H100","kind":"discrete","vendor_id":4318,"api":null,"driver":null,"bus":"0000:01:00.0",
            "uuid":null,"memory_bytes":8,"memory_used_bytes":'$used',"busy_percent":null}"#;
        let text = format!(
            "used=1; [ \"$2\" = --readings ] && {{ used=5; [ -e \"$0.broken\" ] && exit 1; }}\n\
             echo '{{\"devices\":[{device}],\"remarks\":[]}}'"
        );
        let (folder, path) = program(&text);
        asked(&path, &[], 20 * SECOND).await.unwrap();
        let (sender, mut devices) = watch::channel(Vec::new());
        let running = tokio::spawn(run(path, sender, SECOND / 20));
        let used = |wanted: Option<u64>| {
            move |devices: &Vec<Device>| devices.iter().any(|device| device.memory_used_bytes == wanted)
        };
        devices.wait_for(used(Some(5))).await.unwrap();
        std::fs::write(folder.path().join("program.broken"), "").unwrap();
        running.await.unwrap();
        let last = devices.borrow().clone();
        assert!(used(None)(&last), "what was read last does not stay");
        assert_eq!((&last[0].name[..], last.len()), ("H100", 1));
    }
}
