//! Peers in Python, each measurement in a process of its own.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::results::Measurement;

/// A Python with a peer in it.
pub(crate) struct Peer {
    name: &'static str,
    script: PathBuf,
    python: Option<PathBuf>,
}

/// How long a measurement may take; then it is ended and counts as failed.
const SECONDS_MAX: u32 = 180;

/// The checkout.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

impl Peer {
    /// PyTorch, where `NEAP_BENCH_TORCH` names a Python or `benches/peers/setup torch` has made one.
    pub(crate) fn torch() -> Self {
        Self::find("torch", "NEAP_BENCH_TORCH", "torch_train.py")
    }

    /// Ray, where `NEAP_BENCH_RAY` names a Python or `benches/peers/setup ray` has made one.
    pub(crate) fn ray() -> Self {
        Self::find("ray", "NEAP_BENCH_RAY", "ray_rounds.py")
    }

    fn find(name: &'static str, variable: &str, script: &str) -> Self {
        let usual = PathBuf::from(ROOT).join(".venv").join(name).join("bin/python");
        let python = std::env::var_os(variable).map(PathBuf::from).or_else(|| usual.exists().then_some(usual));
        Self { name, script: PathBuf::from(ROOT).join("benches/peers").join(script), python }
    }

    /// One measurement a line of its output.
    pub(crate) fn measure(&self, arguments: &[&str]) -> Result<Vec<Measurement>, String> {
        let name = self.name;
        let python = self.python.as_ref().ok_or_else(|| format!("no {name}: run `./benches/peers/setup {name}`"))?;
        let mut command = Command::new("timeout");
        // In the foreground: a ^C ends it with the bench.
        command.args(["--foreground", "--kill-after=10", &SECONDS_MAX.to_string()]);
        command.arg(python).arg(&self.script).args(arguments);
        let output = command.output().map_err(|error| format!("{name} does not start: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{name} failed ({}): {}", output.status, said.lines().last().unwrap_or_default()));
        }
        let lines = String::from_utf8_lossy(&output.stdout);
        let measurements: Option<Vec<Measurement>> = lines.lines().map(measurement).collect();
        measurements.ok_or_else(|| format!("{name} printed something else than measurements"))
    }
}

fn measurement(line: &str) -> Option<Measurement> {
    let peer: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| peer.get(name).and_then(Value::as_f64);
    Some(Measurement {
        wall_seconds: number("wall_s")?,
        cpu_seconds: number("cpu_s")?,
        units: number("samples").or_else(|| number("rounds"))?,
        steps: number("steps").or_else(|| number("gradients"))?,
        peer: Some(peer),
    })
}
