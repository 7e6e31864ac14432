//! What the tests of this crate share.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use neap_storage::{Entry, Journal};

/// A folder for one test, in memory where there is such a place: the tests sync thousands of times.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A small generator with a seed (splitmix64), so that a failing trial can be run again.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// One way in which a file comes back other than it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    FlipBit(usize),
    Truncate(usize),
    ZeroPage(usize),
}

impl Damage {
    pub(crate) fn any(rng: &mut Seeded, length: usize) -> Self {
        match rng.below(3) {
            0 => Self::FlipBit(rng.below(length * 8)),
            1 => Self::Truncate(rng.below(length)),
            _ => Self::ZeroPage(rng.below(length)),
        }
    }

    /// Returns whether anything changed.
    pub(crate) fn apply(self, path: &Path) -> bool {
        let before = fs::read(path).unwrap();
        let mut bytes = before.clone();
        match self {
            Self::FlipBit(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
            Self::Truncate(length) => bytes.truncate(length),
            Self::ZeroPage(at) => {
                let start = at / 4_096 * 4_096;
                let end = bytes.len().min(start + 4_096);
                bytes[start..end].fill(0);
            }
        }
        fs::write(path, &bytes).unwrap();
        bytes != before
    }
}

/// Copies a folder with all that is in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files under a folder.
pub(crate) fn files_under(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_under(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// Writes a journal of one append for each of `appends` and returns its records.
pub(crate) fn write_journal(dir: &Path, appends: &[Vec<Vec<u8>>]) -> Vec<Entry> {
    let (mut journal, entries) = Journal::open(dir).unwrap();
    assert!(entries.is_empty());
    let entries = appends.iter().flat_map(|append| journal.append_entries(append).unwrap()).collect();
    journal.close().unwrap();
    entries
}

/// Starts this test binary again, to run only `test` with `dir` in the variable `variable`.
pub(crate) fn start_again(test: &str, variable: &str, dir: &Path) -> (Child, ChildStdout) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(variable, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    (child, stdout)
}

/// What a child says before it begins something that the parent may kill it in.
pub(crate) fn begin(number: u64) {
    say("begun", number);
}

/// What a child says as soon as it is done; the parent may kill it at any time.
pub(crate) fn acknowledge(number: u64) {
    say("acknowledged", number);
}

fn say(word: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {number}").and_then(|()| out.flush()).unwrap();
}

/// How far a child had come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Killed {
    /// The last number it acknowledged.
    pub(crate) acknowledged: u64,
    /// The last number it began with; greater than the other one if it was killed inside.
    pub(crate) begun: u64,
}

/// Runs `test` of this binary in a child, kills it after a while below `within` that depends on `seed`, and returns how
/// far it had come. Nothing is killed before its first acknowledgement.
pub(crate) fn run_and_kill(test: &str, variable: &str, value: &Path, seed: u64, within: Duration) -> Killed {
    let (mut child, stdout) = start_again(test, variable, value);
    let (first, got_first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut killed = Killed::default();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let number = |word: &str| line.rsplit_once(word).and_then(|(_, number)| number.trim().parse().ok());
            if let Some(number) = number("acknowledged ") {
                killed.acknowledged = number;
                let _ = first.send(());
            } else if let Some(number) = number("begun ") {
                killed.begun = number;
            }
        }
        killed
    });
    got_first.recv_timeout(Duration::from_secs(30)).expect("the child acknowledges something");
    std::thread::sleep(Duration::from_nanos(Seeded(seed).next() % within.as_nanos() as u64));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}
