//! Where recorded traces and the results of peers lie: in `NEAP_BENCH_DATA`, or beside the workspace. Every scheduling
//! bench that reads data reads it through here.

use std::path::{Path, PathBuf};

/// The folder of all recordings. It may be missing.
pub(crate) fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/bench/scheduling");
    std::env::var_os("NEAP_BENCH_DATA").map_or_else(beside, PathBuf::from)
}

/// The text of a file in it. The error names the file and says what to set.
pub(crate) fn read(file: &str) -> Result<String, String> {
    let path = folder().join(file);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}; set NEAP_BENCH_DATA", path.display()))
}
