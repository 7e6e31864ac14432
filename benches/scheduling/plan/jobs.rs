//! The recordings, and the jobs that are laid out over them: where the split is, and which jobs count.

use std::collections::BTreeSet;

use neap_scheduler::estimate::{PlanJob, Speedup};
use neap_scheduler::model::{MarketChoice, Millis};
use neap_scheduler::sim::spot::{ZoneTrace, read_zone_traces};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::recorded;
use crate::score::Scored;

/// The recordings with prices. The others hold counts only.
const FILES: [&str; 8] = [
    "aws_2022_10.jsonl",
    "aws_cpu_2023_04.jsonl",
    "aws_v100_16node_2023_08.jsonl",
    "aws_v100_2023_02.jsonl",
    "aws_v100_2023_04.jsonl",
    "aws_v100_4node_2023_08.jsonl",
    "gcp_cpu_2023_04.jsonl",
    "gcp_h100_2025.jsonl",
];

/// How many jobs are scored.
const JOBS: usize = 500;

/// Lays the jobs out and chooses among them.
const SEED: u64 = 20_251_121;

/// Hours of work, and how many times that the deadline is: short enough that 500 windows fit beside each other.
const WORK_HOURS: [f64; 4] = [4.0, 6.0, 8.0, 12.0];
const DEADLINE_RATIOS: [f64; 3] = [1.25, 1.5, 2.0];

/// Minutes of a restart: 0.05 and 0.2 hours, as in the reference runs that deadline policies are compared on.
const RESTART_MINUTES: [u64; 2] = [3, 12];

/// One recorded zone.
pub(crate) struct Market {
    /// The file it is from.
    pub(crate) file: &'static str,
    /// What was recorded.
    pub(crate) zone: ZoneTrace,
}

impl Market {
    /// Ticks before the split: the first half of the recording.
    pub(crate) fn half(&self) -> usize {
        self.zone.ticks() / 2
    }

    /// One line about it.
    pub(crate) fn describe(&self) -> String {
        let share = |from: usize, to: usize| {
            100.0 * (from..to).filter(|&tick| self.zone.available(tick)).count() as f64 / (to - from).max(1) as f64
        };
        let days = self.zone.ticks() as f64 * self.zone.tick.as_secs_f64() / 86_400.0;
        format!(
            "{:<32} {:<18} {days:>5.1} days, spot {:>5.1} % of the first half, {:>5.1} % of the second",
            self.file,
            self.zone.zone,
            share(0, self.half()),
            share(self.half(), self.zone.ticks())
        )
    }
}

/// Which part of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// To fit: jobs in its second half, planned with what came before.
    First,
    /// To score.
    Second,
}

/// One job at one time on one market.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The market.
    pub(crate) market: usize,
    /// The tick of its start.
    pub(crate) start: usize,
    /// Ticks until its deadline.
    pub(crate) window: usize,
    /// The job.
    pub(crate) job: PlanJob,
}

/// Reads the recordings; says so loudly where there are none.
pub(crate) fn read_markets() -> Option<Vec<Market>> {
    let mut markets = Vec::new();
    for file in FILES {
        let text = match recorded::read(&format!("spot/{file}")) {
            Ok(text) => text,
            Err(error) => {
                println!("SKIPPED: {error}");
                continue;
            }
        };
        let zones = read_zone_traces(file, &text).expect("the recordings are well-formed");
        markets.extend(zones.into_iter().map(|zone| Market { file, zone }));
    }
    if markets.is_empty() { None } else { Some(markets) }
}

/// Jobs side by side over a part of each market, without overlap within a zone. Another `pass` begins three hours later
/// and has other jobs; its windows overlap those of the first.
pub(crate) fn lay_out(markets: &[Market], half: Half, pass: u64) -> Vec<Job> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED + pass);
    let mut jobs = Vec::new();
    for (market, Market { zone, .. }) in markets.iter().enumerate() {
        let middle = zone.ticks() / 2;
        let (mut start, end) = match half {
            Half::First => (middle / 2, middle),
            Half::Second => (middle, zone.ticks()),
        };
        start += (pass * 3 * 3_600_000 / zone.tick.get()) as usize;
        loop {
            let job = any_job(&mut rng);
            let deadline = job.deadline.unwrap_or_default();
            let window = deadline.get().div_ceil(zone.tick.get()) as usize + 1;
            if start + window > end {
                break;
            }
            jobs.push(Job { market, start, window, job });
            start += window;
        }
    }
    jobs
}

fn any_job(rng: &mut ChaCha8Rng) -> PlanJob {
    let hours = WORK_HOURS.choose(rng).copied().unwrap_or(WORK_HOURS[0]);
    let ratio = DEADLINE_RATIOS.choose(rng).copied().unwrap_or(DEADLINE_RATIOS[0]);
    let restart = RESTART_MINUTES[rng.random_range(0..RESTART_MINUTES.len())];
    let time = |hours: f64| Millis::new((hours * 3.6e6) as u64);
    PlanJob {
        work: time(hours),
        workers: 1,
        workers_min: 1,
        workers_max: 1,
        speedup: Speedup(vec![(1, 1.0)]),
        restart: Millis::from_secs(60 * restart),
        checkpoint: Some(Millis::from_secs(600)),
        market: MarketChoice::Auto,
        deadline: Some(time(hours * ratio)),
        budget: None,
        max_price: None,
    }
}

/// The jobs that count: those that overlap no other in their zone, and as many of the others as are missing.
pub(crate) fn choose(mut apart: Vec<Scored>, mut overlapping: Vec<Scored>) -> Vec<Scored> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    apart.shuffle(&mut rng);
    overlapping.shuffle(&mut rng);
    apart.extend(overlapping);
    apart.truncate(JOBS);
    apart
}

/// The files, each once.
pub(crate) fn files(markets: &[Market]) -> Vec<&'static str> {
    FILES.into_iter().filter(|file| markets.iter().any(|market| market.file == *file)).collect()
}

/// How many separate stretches of time the jobs cover: jobs of one recording that overlap in time, in whatever zone, are
/// one stretch.
pub(crate) fn stretches(jobs: &[Scored]) -> usize {
    let mut taken: BTreeSet<(&str, u64, u64)> = BTreeSet::new();
    let mut spans: Vec<(&str, u64, u64)> = jobs.iter().map(|job| job.span).collect();
    spans.sort_by_key(|span| (span.0, span.2));
    for span in spans {
        let free = taken.iter().next_back().is_none_or(|last| last.0 != span.0 || last.2 <= span.1);
        if free {
            taken.insert(span);
        }
    }
    taken.len()
}
