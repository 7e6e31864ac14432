//! `neap up` and `neap down`: the control plane of this machine as a background process.
//!
//! `up` starts this binary again as `neap control` in a process group of its own, with its output in the home's
//! `control.log`, and returns when the API answers. The home's lock keeps two of them apart, whoever
//! starts them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use neap_runtime::workload::CONTROL_ARGUMENT;
use serde::Serialize;

use crate::home::{Endpoint, Home, HomeError};
use crate::http::body::ShutdownBody;

use super::Shell;
use super::args::{ControlArgs, DownArgs};
use super::client::{Client, ClientError};
use super::exit::{CliError, Exit};
use super::process;

/// How long the control plane has to become ready. Replaying a long journal is what takes time.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often `up` looks whether it is ready.
const READY_LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long the control plane has to give its nodes back and end.
const DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// A log larger than this is put aside at the next start; one older log is kept.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// How much of the log is shown when the control plane does not start.
const SAID_BYTES_MAX: u64 = 4 << 10;

/// What `up` and `down` found or did.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Started,
    AlreadyUp,
    Ended,
    NotUp,
}

#[derive(Debug, Serialize)]
struct UpReport {
    outcome: Outcome,
    url: String,
    #[serde(flatten)]
    endpoint: Endpoint,
}

#[derive(Debug, Serialize)]
struct DownReport {
    outcome: Outcome,
    pid: Option<u32>,
}

pub(super) fn up(shell: &Shell, args: &ControlArgs) -> Result<Exit, CliError> {
    shell.home.create()?;
    let begun = Instant::now();
    let deadline = begun + shell.timeout.unwrap_or(READY_TIMEOUT);
    if let Some(endpoint) = settle(&shell.home, deadline) {
        return report_up(shell, Outcome::AlreadyUp, endpoint, "already up");
    }
    check_free(args.http)?;
    let (log, said_from) = open_log(&shell.home)?;
    let mut child = start(&shell.home, args, log)?;
    match wait_until_ready(shell, &mut child, deadline)? {
        Started::Ready(endpoint) => {
            let how = format!("up, ready after {:.2} s", begun.elapsed().as_secs_f64());
            report_up(shell, Outcome::Started, endpoint, &how)
        }
        Started::Rival(endpoint) => report_up(shell, Outcome::AlreadyUp, endpoint, "already up"),
        Started::Gone => {
            let log = shell.home.log_path();
            Err(CliError::DidNotStart { said: tail(&log, said_from), log })
        }
        Started::Late => Err(CliError::TimedOut {
            what: format!("the start of the control plane (process {})", child.id()),
            seconds: begun.elapsed().as_secs(),
        }),
    }
}

pub(super) fn down(shell: &Shell, args: &DownArgs) -> Result<Exit, CliError> {
    let client = match Client::find(&shell.home) {
        Ok(client) => client,
        Err(ClientError::NotUp { .. }) => return report_not_up(shell),
        Err(error) => return Err(error.into()),
    };
    let pid = client.endpoint().pid;
    client.shutdown(ShutdownBody { end_nodes: !args.keep_nodes })?;
    let patience = shell.timeout.unwrap_or(DOWN_TIMEOUT);
    if !process::wait_for_end(pid, patience) {
        let what = format!("the end of the control plane (process {pid})");
        return Err(CliError::TimedOut { what, seconds: patience.as_secs() });
    }
    let nodes = if args.keep_nodes { "its nodes go on working" } else { "its nodes were given back" };
    let report = DownReport { outcome: Outcome::Ended, pid: Some(pid) };
    shell.output.document(&report, &pid.to_string(), || format!("neap is down; {nodes}\n"))?;
    Ok(Exit::Ok)
}

fn report_up(shell: &Shell, outcome: Outcome, endpoint: Endpoint, how: &str) -> Result<Exit, CliError> {
    let url = format!("http://{}", endpoint.http);
    let report = UpReport { outcome, url: url.clone(), endpoint };
    shell.output.document(&report, &url, || {
        format!("neap is {how}: {url} (process {}, home {})\n", endpoint.pid, shell.home.path().display())
    })?;
    Ok(Exit::Ok)
}

fn report_not_up(shell: &Shell) -> Result<Exit, CliError> {
    if let Some(stale) = shell.home.endpoint()? {
        shell.home.withdraw(stale.pid)?;
        shell.output.remark(
            "the control plane ended without saying so; nodes that it left at work give up by themselves, or the next \
             `neap up` takes them over",
        );
    }
    let report = DownReport { outcome: Outcome::NotUp, pid: None };
    shell.output.document(&report, "", || "neap is not up; nothing to do\n".to_owned())?;
    Ok(Exit::Ok)
}

/// The control plane of this home, if there is one that answers.
fn running(home: &Home) -> Option<Endpoint> {
    let client = Client::find(home).ok()?;
    client.ready().ok().filter(|answer| answer.ready).map(|_| client.endpoint())
}

/// Finds out before anything is started whether the API can have its address.
fn check_free(addr: SocketAddr) -> Result<(), CliError> {
    match TcpListener::bind(addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(CliError::PortInUse { addr }),
        // Anything else is the control plane's to report, in its own words.
        _ => Ok(()),
    }
}

/// The log, and where what is written from now on starts.
fn open_log(home: &Home) -> Result<(File, u64), CliError> {
    let path = home.log_path();
    let open = || {
        if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            fs::rename(&path, path.with_extension("log.old"))?;
        }
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        let length = log.metadata()?.len();
        Ok((log, length))
    };
    open().map_err(|source| HomeError::Write { path: path.clone(), source }.into())
}

fn start(home: &Home, args: &ControlArgs, log: File) -> Result<Child, CliError> {
    let spawn = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CONTROL_ARGUMENT).arg("--home").arg(home.path()).arg("--http").arg(args.http.to_string());
        if let Some(config) = &args.config {
            command.arg("--config").arg(std::path::absolute(config)?);
        }
        // Not the caller's terminal, process group or folder: the control plane outlives all three.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).current_dir(home.path());
        command.spawn()
    };
    spawn().map_err(|source| CliError::Start { what: "the control plane", source })
}

enum Started {
    Ready(Endpoint),
    /// Somebody else has started one with the same home at the same time.
    Rival(Endpoint),
    Gone,
    Late,
}

fn wait_until_ready(shell: &Shell, child: &mut Child, deadline: Instant) -> Result<Started, CliError> {
    loop {
        if let Some(endpoint) = running(&shell.home).filter(|endpoint| endpoint.pid == child.id()) {
            return Ok(Started::Ready(endpoint));
        }
        let ended = child.try_wait().map_err(|source| CliError::Start { what: "the control plane", source })?;
        if ended.is_some() {
            return Ok(settle(&shell.home, deadline).map_or(Started::Gone, Started::Rival));
        }
        if Instant::now() >= deadline {
            return Ok(Started::Late);
        }
        std::thread::sleep(READY_LOOK_EVERY);
    }
}

/// Waits while somebody else's control plane starts or ends, and gives it if it is there to stay.
fn settle(home: &Home, deadline: Instant) -> Option<Endpoint> {
    loop {
        if let Some(endpoint) = running(home) {
            return Some(endpoint);
        }
        if !matches!(home.lock(), Err(HomeError::Locked { .. })) || Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(READY_LOOK_EVERY);
    }
}

/// The end of the log, of what was written since `from`.
fn tail(log: &Path, from: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(SAID_BYTES_MAX)).min(length)))?;
        let mut bytes = Vec::new();
        file.take(SAID_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "it said nothing".to_owned())
}
