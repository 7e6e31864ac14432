//! The file of a program, read once from end to end: its kind, its machine, Neap's mark, its hash.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memchr::memmem::Finder;
use neap_runtime::workload::{LAUNCH_VERSION, MARK_PREFIX};
use neap_scheduler::model::ContentHash;
use neap_scheduler::spec::ArtifactFault;
use neap_storage::artifact::ARTIFACT_BYTES_MAX;

/// How much is read at once.
const BLOCK_BYTES: usize = 1 << 20;

/// The part of an ELF header that says for what it is: up to and including `e_machine` (elf(5)).
const HEADER_BYTES: usize = 20;

/// Digits of a launch version, and the `;` behind them.
const VERSION_BYTES_MAX: usize = 11;

/// Looks at the file.
///
/// # Errors
///
/// Why it cannot be brought along.
pub(super) fn inspect(path: &Path) -> Result<ContentHash, ArtifactFault> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => fault(
            format!("there is nothing at {}", path.display()),
            "build the program first; relative paths start at the job file's folder",
        ),
        _ => fault(format!("{} cannot be read: {error}", path.display()), "name a program that you may read"),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err(fault(format!("{} is no file", path.display()), "name the program itself"));
    }
    if facts.len() > ARTIFACT_BYTES_MAX {
        let message =
            format!("{} has {} bytes; a program has at most {ARTIFACT_BYTES_MAX}", path.display(), facts.len());
        return Err(fault(message, "build it with `--release`, or without debug information"));
    }
    let own = own_header().map_err(unreadable)?;
    let read = read(&mut file, |header| check_header(path, header, &own)).map_err(|error| match error {
        ReadError::Io(error) => unreadable(error),
        ReadError::Fault(fault) => fault,
    })?;
    match read.launch_version {
        Some(LAUNCH_VERSION) => Ok(read.hash),
        Some(other) => Err(fault(
            format!("{} reads launch version {other} of Neap, and this is version {LAUNCH_VERSION}", path.display()),
            "build it again with the version of Neap that runs the cluster",
        )),
        None => Err(fault(
            format!("{} does not link Neap", path.display()),
            "let its `main` begin with `neap::worker_main(entries)`, or be `neap::main(entries)`",
        )),
    }
}

fn fault(message: String, help: &str) -> ArtifactFault {
    ArtifactFault { message, help: help.to_owned() }
}

type Header = [u8; HEADER_BYTES];

/// That of this very program, which certainly runs here.
fn own_header() -> io::Result<Header> {
    let mut header = [0; HEADER_BYTES];
    File::open(std::env::current_exe()?)?.read_exact(&mut header)?;
    Ok(header)
}

fn check_header(path: &Path, start: &[u8], own: &Header) -> Result<(), ArtifactFault> {
    let name = path.display();
    if start.starts_with(b"#!") {
        return Err(fault(format!("{name} is a script"), "name the program itself: what cargo built from a `main`"));
    }
    let Some(header) = start.first_chunk::<HEADER_BYTES>().filter(|header| header.starts_with(b"\x7fELF")) else {
        return Err(fault(
            format!("{name} is no program (no ELF file)"),
            "name what cargo built, in target/debug or target/release",
        ));
    };
    // Class, byte order and machine; the rest of the header differs between programs of one machine.
    let machine = |header: &Header| (header[4], header[5], header[18], header[19]);
    if machine(header) != machine(own) {
        let message =
            format!("{name} is built for {}, and this machine is {}", machine_name(header), machine_name(own));
        return Err(fault(message, "build it for the machines that run it, with `cargo build --target`"));
    }
    Ok(())
}

fn machine_name(header: &Header) -> String {
    let bits = if header[4] == 2 { 64 } else { 32 };
    // Names of the System V ABI's list, those that Rust programs are built for.
    let name = match u16::from_le_bytes([header[18], header[19]]) {
        3 => "x86",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "s390",
        40 => "Arm",
        62 => "x86-64",
        183 => "AArch64",
        243 => "RISC-V",
        258 => "LoongArch",
        other => return format!("machine {other} ({bits} bit)"),
    };
    format!("{name} ({bits} bit)")
}

struct Seen {
    hash: ContentHash,
    launch_version: Option<u32>,
}

enum ReadError {
    Io(io::Error),
    Fault(ArtifactFault),
}

/// Reads everything, the beginning first: a file that is none of ours is not read to its end.
fn read(input: &mut impl Read, check: impl FnOnce(&[u8]) -> Result<(), ArtifactFault>) -> Result<Seen, ReadError> {
    let mut hasher = blake3::Hasher::new();
    let finder = Finder::new(MARK_PREFIX);
    let mut check = Some(check);
    let mut launch_version = None;
    // The end of the block before stays in front, so that a mark across the two is found.
    let overlap = MARK_PREFIX.len() + VERSION_BYTES_MAX;
    let mut block = Vec::with_capacity(BLOCK_BYTES + overlap);
    loop {
        let kept = block.len();
        input.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block).map_err(ReadError::Io)?;
        if let Some(check) = check.take() {
            check(&block).map_err(ReadError::Fault)?;
        }
        if block.len() == kept {
            let hash = ContentHash::new(*hasher.finalize().as_bytes());
            return Ok(Seen { hash, launch_version });
        }
        hasher.update(&block[kept..]);
        if launch_version.is_none() {
            launch_version = finder.find_iter(&block).find_map(|at| version(&block[at + MARK_PREFIX.len()..]));
        }
        block.drain(..block.len().saturating_sub(overlap));
    }
}

/// The version behind the beginning of a mark. The bare beginning is in every program too: it is what is searched for.
fn version(rest: &[u8]) -> Option<u32> {
    let rest = &rest[..rest.len().min(VERSION_BYTES_MAX)];
    let digits = rest.split(|&byte| byte == b';').next().filter(|digits| digits.len() < rest.len())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(bytes: &[u8]) -> Seen {
        match read(&mut &*bytes, |_| Ok(())) {
            Ok(seen) => seen,
            Err(_) => panic!("reading memory does not fail"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_mark_is_found_wherever_it_lies(before in 0usize..3 * BLOCK_BYTES, around: bool, version: u32) {
            let mut bytes = vec![b'n'; before];
            if around {
                // Across the border of two blocks, where it could be cut.
                bytes.truncate(before / BLOCK_BYTES * BLOCK_BYTES);
                bytes.truncate(bytes.len().saturating_sub(before % 48));
            }
            bytes.extend(MARK_PREFIX.as_bytes());
            bytes.extend(format!("and text {MARK_PREFIX}{version};").as_bytes());
            prop_assert_eq!(seen(&bytes).launch_version, Some(version));
            prop_assert_eq!(seen(&bytes).hash, ContentHash::new(*blake3::hash(&bytes).as_bytes()));
        }
    }

    #[test]
    fn no_mark_is_no_mark() {
        for bytes in [&b""[..], b"neap worker program, launch version ", b"neap worker program, launch version x;"] {
            assert_eq!(seen(bytes).launch_version, None);
        }
    }

    #[test]
    fn what_is_no_program_for_this_machine_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            inspect(&path).unwrap_err().message
        };
        let own = own_header().unwrap();
        assert!(refused("run.sh", b"#!/bin/sh\nexit 0\n").ends_with("run.sh is a script"));
        assert!(refused("notes", b"plain text").ends_with("notes is no program (no ELF file)"));
        assert!(refused("cut", &own[..9]).ends_with("cut is no program (no ELF file)"));
        let mut foreign = own;
        foreign[18..20].copy_from_slice(&258u16.to_le_bytes());
        assert!(refused("foreign", &foreign).contains("is built for LoongArch (64 bit), and this machine is"));
        assert!(refused("stranger", &own).ends_with("stranger does not link Neap"));
        let mut newer = own.to_vec();
        newer.extend(format!("{MARK_PREFIX}4000000000;").as_bytes());
        assert!(refused("newer", &newer).contains("launch version 4000000000"));
        assert!(inspect(&folder.path().join("none")).unwrap_err().message.starts_with("there is nothing at"));
        assert!(inspect(folder.path()).unwrap_err().message.ends_with("is no file"));
    }
}
