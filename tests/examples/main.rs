//! The examples, run as a reader would run them: what they print is what they promise, and nothing of theirs is left.
//!
//! `cargo test` builds the examples beside this test; they lie next to the binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command line, which use other parts")]
mod support;

mod artifact;
mod shown;

use std::path::{Path, PathBuf};

/// The program of an example.
pub(crate) fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_neap")).parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not built; `cargo test` does it, or `cargo build --examples`", program.display());
    program
}
