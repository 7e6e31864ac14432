//! Runs the binary in a home folder of its own, and ends what it started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Standard output as the one JSON document that it must be.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A home folder that goes away with everything that runs in it.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_neap"));
        command.args(args).env("NEAP_HOME", self.path()).env_remove("NEAP_LOG").env_remove("NO_COLOR");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn neap(&self, args: &[&str]) -> Done {
        done(&mut self.command(args))
    }

    /// Starts a control plane on a free port and gives its address.
    pub(crate) fn up(&self) -> Plane {
        self.up_with(&[])
    }

    /// As [`Self::up`], with further variables in its environment.
    pub(crate) fn up_with(&self, variables: &[(String, String)]) -> Plane {
        let mut up = self.command(&["up", "--http", "127.0.0.1:0", "-o", "json"]);
        let report = done(up.envs(variables.iter().cloned())).expect(0).json();
        Plane {
            http: report["http"].as_str().unwrap().to_owned(),
            pid: report["pid"].as_u64().unwrap(),
            token: std::fs::read_to_string(self.path().join("token")).unwrap().trim().to_owned(),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let pid = self.endpoint().and_then(|endpoint| endpoint["pid"].as_u64());
        let down = self.neap(&["down", "--timeout", "10s"]);
        if let Some(pid) = pid.filter(|_| down.code != 0) {
            kill(pid);
        }
    }
}

impl Home {
    pub(crate) fn endpoint(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.path().join("endpoint.json")).ok()?).ok()
    }
}

/// A running control plane.
pub(crate) struct Plane {
    pub(crate) http: String,
    pub(crate) pid: u64,
    pub(crate) token: String,
}

pub(crate) fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Ends a process the hard way.
pub(crate) fn kill(pid: u64) {
    Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
}

/// A folder of this package.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
