//! `neap doctor`: looks at this machine and the control plane, and says what to do about what is wrong.
//!
//! Each check looks at one thing and gives a finding. Warnings are about comfort and speed; a failure means that
//! something will not work. A control plane that is not up is no failure: nothing is wrong with that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::home::Home;
use crate::http::body::VersionBody;

use super::Shell;
use super::args::Format;
use super::client::{Client, ClientError};
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone};

/// Where Debian's package puts the data set of the main example.
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz";

/// Below this the journal or a checkpoint may soon not find room.
const DISK_MIB_LOW: u64 = 1_024;

/// Below this even the journal cannot be trusted to grow.
const DISK_MIB_MIN: u64 = 64;

/// A small training worker with its data takes about this much.
const MEMORY_MIB_LOW: u64 = 512;

/// A control plane with a few hundred nodes and clients holds about this many files and connections open.
const OPEN_FILES_LOW: u64 = 1_024;

/// Linux starts with 208 KiB. A burst of a large tensor over QUIC overruns that and is sent again.
const UDP_BUFFER_BYTES_LOW: u64 = 2 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(super) fn doctor(shell: &Shell) -> Result<Exit, CliError> {
    let mut findings = vec![home(&shell.home)];
    findings.extend(secrets(&shell.home));
    findings.extend(control_plane(&shell.home));
    findings.extend([data_set(Path::new(FASHION_MNIST)), disk(&shell.home), memory(), open_files(), udp_buffer()]);
    show(shell, &findings)?;
    match findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count() {
        0 => Ok(Exit::Ok),
        failed => Err(CliError::Unhealthy { failed }),
    }
}

fn show(shell: &Shell, findings: &[Finding]) -> Result<(), CliError> {
    let mut listing = Listing::new(&["CHECK", "VERDICT", "FOUND", "WHAT TO DO"]);
    for finding in findings {
        let (word, tone) = match finding.verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warn => ("warn", Tone::Busy),
            Verdict::Fail => ("fail", Tone::Bad),
        };
        let advice = finding.advice.clone().unwrap_or_default();
        listing.row([
            (finding.check.to_owned(), Tone::Plain),
            (word.to_owned(), tone),
            (finding.found.clone(), Tone::Plain),
            (advice, Tone::Plain),
        ]);
    }
    if shell.output.quiet && shell.output.format == Format::Table {
        return Ok(());
    }
    shell.output.list(findings, &listing)
}

fn home(home: &Home) -> Finding {
    const CHECK: &str = "home folder";
    let path = home.path().display();
    let Ok(folder) = fs::metadata(home.path()) else {
        return Finding::ok(CHECK, format!("{path} is not there yet; `neap up` makes it"));
    };
    if let Err(error) = tempfile_in(home.path()) {
        return Finding::fail(
            CHECK,
            format!("{path} cannot be written: {error}"),
            "make it yours, or choose another with --home",
        );
    }
    if folder.mode() & 0o077 != 0 {
        return Finding::warn(CHECK, format!("{path} is open to other users"), format!("chmod 700 {path}"));
    }
    Finding::ok(CHECK, format!("{path} is writable"))
}

/// Writes and removes a file, as the control plane will.
fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".doctor.{}", std::process::id()));
    fs::write(&path, b"neap doctor")?;
    fs::remove_file(&path)
}

fn secrets(home: &Home) -> Vec<Finding> {
    let check = |check: &'static str, path: &Path| {
        let mode = fs::metadata(path).ok()?.mode() & 0o777;
        Some(if mode & 0o077 == 0 {
            Finding::ok(check, "readable by its owner only")
        } else {
            let advice = format!(
                "chmod 600 {0}; others may have read it: with neap down, remove it and start again",
                path.display()
            );
            Finding::fail(check, format!("{} can be read by others (mode {mode:o})", path.display()), advice)
        })
    };
    [check("API token", &home.token_path()), check("CA key", &home.ca_key_path())].into_iter().flatten().collect()
}

fn control_plane(home: &Home) -> Vec<Finding> {
    const CHECK: &str = "control plane";
    let client = match Client::find(home) {
        Ok(client) => client,
        Err(ClientError::NotUp { .. }) => return vec![Finding::warn(CHECK, "not up", "neap up")],
        Err(error) => {
            let advice = "run this as the user who ran `neap up`";
            return vec![Finding::fail(CHECK, CliError::from(error).chain(), advice)];
        }
    };
    let mut findings = vec![match client.ready() {
        Ok(ready) if ready.ready => Finding::ok(CHECK, format!("ready at http://{}", client.endpoint().http)),
        Ok(ready) => Finding::fail(CHECK, ready.failing.join("; "), "look into control.log in the home folder"),
        Err(error) => Finding::fail(CHECK, CliError::from(error).chain(), "neap down, then neap up"),
    }];
    if let Ok(theirs) = client.version() {
        findings.push(version(&theirs));
    }
    findings.push(match client.status() {
        Ok(status) => Finding::ok("journal", format!("{} records", status.journal_records)),
        Err(error) => {
            Finding::fail("journal", CliError::from(error).chain(), "look into control.log in the home folder")
        }
    });
    findings
}

fn version(theirs: &VersionBody) -> Finding {
    const CHECK: &str = "version";
    let own = VersionBody::own();
    if *theirs == own {
        return Finding::ok(CHECK, format!("{} here and there", own.version));
    }
    let found = format!("this is {}, the control plane is {}", own.version, theirs.version);
    Finding::warn(CHECK, found, "neap down --keep-nodes, then neap up")
}

fn data_set(file: &Path) -> Finding {
    const CHECK: &str = "example data";
    if file.exists() {
        return Finding::ok(CHECK, "Fashion-MNIST is installed");
    }
    let advice = "apt-get install dataset-fashion-mnist; examples/digits.yaml needs nothing";
    Finding::warn(CHECK, "Fashion-MNIST is not installed", advice)
}

fn disk(home: &Home) -> Finding {
    // The folder itself, or the nearest one above it that is there.
    let free = home.path().ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok());
    match free {
        Some(disk) => judge_disk(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20),
        None => Finding::warn("disk", "free space is not known", "see that the home folder's disk is there"),
    }
}

fn judge_disk(free_mib: u64) -> Finding {
    let found = format!("{} free", amount(free_mib));
    match free_mib {
        ..DISK_MIB_MIN => Finding::fail("disk", found, "make room: the journal stops when the disk is full"),
        DISK_MIB_MIN..DISK_MIB_LOW => Finding::warn("disk", found, "make room for checkpoints and models"),
        _ => Finding::ok("disk", found),
    }
}

/// `63.5 GiB`.
fn amount(mib: u64) -> String {
    if mib < 1_024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1_024.0) }
}

fn memory() -> Finding {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available_mib(&text) {
        Some(free) if free < MEMORY_MIB_LOW => {
            Finding::warn("memory", format!("{} available", amount(free)), "end other programs before training")
        }
        Some(free) => Finding::ok("memory", format!("{} available", amount(free))),
        None => Finding::warn("memory", "not known", "see that /proc is mounted"),
    }
}

/// `MemAvailable` of `/proc/meminfo`, which counts in KiB.
fn available_mib(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1_024)
}

fn open_files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES_LOW => Finding::warn(
            "open files",
            format!("at most {limit}"),
            format!("ulimit -n {OPEN_FILES_LOW} before `neap up`"),
        ),
        Some(limit) => Finding::ok("open files", format!("at most {limit}")),
        None => Finding::ok("open files", "no limit"),
    }
}

fn udp_buffer() -> Finding {
    let read = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?.trim().parse().ok()
    };
    match (read("rmem_max"), read("wmem_max")) {
        (Some(receive), Some(send)) => judge_udp_buffer(receive.min(send)),
        _ => Finding::ok("UDP buffers", "this system does not say"),
    }
}

fn judge_udp_buffer(bytes: u64) -> Finding {
    let found = format!("at most {} KiB", bytes / 1_024);
    if bytes >= UDP_BUFFER_BYTES_LOW {
        return Finding::ok("UDP buffers", found);
    }
    let advice =
        format!("faster transfers: sysctl -w net.core.rmem_max={0} net.core.wmem_max={0}", UDP_BUFFER_BYTES_LOW);
    Finding::warn("UDP buffers", found, advice)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn limits_are_judged() {
        assert_eq!(judge_disk(10).verdict, Verdict::Fail);
        assert_eq!(judge_disk(500).verdict, Verdict::Warn);
        assert_eq!(judge_disk(50_000).verdict, Verdict::Ok);
        assert_eq!(judge_udp_buffer(212_992).verdict, Verdict::Warn);
        assert_eq!(judge_udp_buffer(4 << 20).verdict, Verdict::Ok);
    }

    #[test]
    fn available_memory_is_read() {
        assert_eq!(available_mib("MemTotal: 1 kB\nMemAvailable:    2097152 kB\n"), Some(2_048));
        assert_eq!(available_mib(""), None);
    }

    #[test]
    fn a_token_that_others_can_read_fails() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path())).unwrap();
        assert!(secrets(&home).is_empty());
        fs::write(home.token_path(), "neap_x").unwrap();
        fs::set_permissions(home.token_path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(secrets(&home)[0].verdict, Verdict::Fail);
        fs::set_permissions(home.token_path(), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secrets(&home)[0].verdict, Verdict::Ok);
    }
}
