//! What a step asks the allocator for, against committed bounds.
//!
//! A job of few steps and one of many are run; the difference of what they allocated belongs to the steps alone.
//!
//! Back of the envelope for `mlp` at a batch of 128: a step turns 128 × 784 samples into floats (401 kB) and copies the
//! parameters into burn's tensors (0.94 MB). burn's own forward and backward pass is measured beside it. The flat
//! gradient and the parameters lie in buffers that are used again, so another 0.94 MB a step would be a copy that should
//! not be there: the bounds leave room for a tenth of one. What comes in over QUIC is in its packets first (1.88 MB a step
//! at the server, 0.94 MB at a trainer).
//!
//! The last row is 20 MB of parameters which the loss does not depend on: they are copied into the network, and anything
//! of that size beyond it would be a copy between the actors of a process.

use std::fmt::Write;

use neap_training::model::{Mlp, MlpParams};

use crate::allocated::Allocated;
use crate::alone::Loop;
use crate::job::Job;
use crate::jobs::{one_process, two_trainers};
use crate::models::PushPull;
use crate::plan::{Bench, mlp, push_pull};
use crate::results::figure;

const FEW: u64 = 100;
const MANY: u64 = 300;

/// What each step of a process may allocate.
struct Limit {
    process: &'static str,
    /// Nothing where it is only shown.
    kilobytes_and_count: Option<(f64, f64)>,
}

impl Limit {
    const fn new(process: &'static str, kilobytes: f64, count: f64) -> Self {
        Self { process, kilobytes_and_count: Some((kilobytes, count)) }
    }
}

/// As measured on 2026-11-28, with 2 to 10 % above: how many packets come at once is never quite the same.
const LIMITS: [Limit; 6] = [
    Limit { process: "`mlp`, burn alone, 128 samples", kilobytes_and_count: None },
    Limit::new("`mlp`, one process, all actors, 1 logical shard, 128 samples", 5_000.0, 620.0),
    Limit::new("`mlp`, first trainer of two, QUIC, 64 samples", 5_050.0, 740.0),
    Limit::new("`mlp`, second trainer", 5_050.0, 740.0),
    Limit::new("`mlp`, server of the two", 2_060.0, 240.0),
    Limit::new("20 MB that only travel, one process, all actors", 1.1 * PushPull::BYTES as f64 / 1e3, 500.0),
];

/// The table, and whether all processes keep their limits.
pub(crate) fn table(bench: &Bench) -> (String, bool) {
    let mut text =
        "### memory\n\n| | kB allocated a step | allocations a step | bounds |\n|---|---|---|---|\n".to_owned();
    let steps = match per_step(bench) {
        Ok(steps) => steps,
        Err(why) => return (text + &format!("| **NOT MEASURED** | | | {why} |\n"), false),
    };
    let mut all = true;
    for (Limit { process, kilobytes_and_count }, step) in LIMITS.iter().zip(steps) {
        let bound = kilobytes_and_count.map_or_else(String::new, |(kilobytes, count)| {
            let holds = step.bytes <= kilobytes * 1e3 && step.count <= count;
            all &= holds;
            let said = if holds { "met" } else { "missed" };
            format!("≤ {} kB, ≤ {count}: **{said}**", figure(kilobytes))
        });
        let (bytes, count) = (figure(step.bytes / 1e3), figure(step.count));
        let _ = writeln!(text, "| {process} | {bytes} | {count} | {bound} |");
    }
    (text, all)
}

/// In the order of [`LIMITS`].
fn per_step(bench: &Bench) -> Result<Vec<Allocated>, String> {
    let here = |run: &dyn Fn() -> Result<(), String>| {
        let before = Allocated::so_far();
        run()?;
        Ok::<_, String>(vec![Allocated::so_far() - before])
    };
    let in_one = |job: Job| here(&|| one_process(&job, &bench.folder).map(drop));
    let alone = |steps: u64| {
        let work = Loop { batch: 128, steps: steps as usize, learns: true };
        here(&|| {
            work.run::<Mlp>(MlpParams::default());
            Ok(())
        })
    };
    let separate = |steps| Ok(two_trainers(&mlp(2, steps), &bench.folder)?.1);
    let rows = [
        difference(alone)?,
        difference(|steps| in_one(mlp(1, steps)))?,
        difference(separate)?,
        difference(|steps| in_one(push_pull(1, steps)))?,
    ];
    Ok(rows.concat())
}

fn difference(run: impl Fn(u64) -> Result<Vec<Allocated>, String>) -> Result<Vec<Allocated>, String> {
    let (few, many) = (run(FEW)?, run(MANY)?);
    Ok(few.into_iter().zip(many).map(|(few, many)| (many - few).per(MANY - FEW)).collect())
}
