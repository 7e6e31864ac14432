//! Is `neap plan` honest? 500 jobs on recorded spot markets, planned before and paid after.
//!
//! Question: does the true cost lie below the printed P50 in half of the cases (40–60 %) and below the printed P95 in
//! 90–99 %, for jobs in the second half of each recording, when everything that is fitted is fitted on the first half?
//! And does one plan, with its alternatives, take less than a second?
//! Bound: were the windows independent, a perfect P50 would be hit with a standard error of 2.2 percentage points and a
//! perfect P95 with 1.0. They are not: zones of one recording rise and fall together, so the number of separate
//! stretches of time is printed beside the number of jobs.
//!
//! `cargo bench -p neap-scheduler --bench plan`. The recordings are read from `NEAP_BENCH_DATA`, by default
//! `../shared/bench/scheduling` beside this repository.

#![allow(clippy::disallowed_methods, reason = "a bench reads files and the clock")]

mod jobs;
mod score;

use std::time::Instant;

use jobs::{Half, Job, Market};
use neap_scheduler::estimate::{Calibration, Likeness};
use score::{Knowledge, Scored};

/// The likenesses that are tried on the first half.
const LIKENESSES: [f64; 5] = [0.02, 0.05, 0.1, 0.3, 10.0];

fn main() {
    let Some(markets) = jobs::read_markets() else { return };
    println!("recordings: {} zones", markets.len());
    for market in &markets {
        println!("  {}", market.describe());
    }
    for knowledge in [Knowledge::UntilSubmitted, Knowledge::FirstHalfOnly] {
        report(&markets, knowledge);
    }
}

fn report(markets: &[Market], knowledge: Knowledge) {
    println!("\n== {} ==", knowledge.text());
    let training = jobs::lay_out(markets, Half::First);
    let (likeness, places) = fit(markets, &training, knowledge);
    let calibration = Calibration::fit(places);
    println!(
        "fitted on {} jobs of the first half: likeness {}, P50 read at {:.3}, P95 at {:.3}",
        training.len(),
        likeness.0,
        calibration.p50,
        calibration.p95
    );
    let all = jobs::lay_out(markets, Half::Second);
    let started = Instant::now();
    let scored = score::score(markets, &all, knowledge, likeness, calibration);
    println!("one plan without alternatives: {:.1} ms", started.elapsed().as_secs_f64() * 1e3 / scored.len() as f64);
    let (certain, open): (Vec<Scored>, Vec<Scored>) = scored.into_iter().partition(|job| job.certain);
    let open = jobs::choose(open);
    print_scores("jobs", &open, markets);
    println!(
        "left out, their cost is certain: {} jobs, {:.1} % of them at or below P95",
        certain.len(),
        100.0 * share(&certain, |job| job.truth <= job.p95)
    );
}

/// The likeness with the smallest mean error of the drawn distribution (CRPS, as a share of the true cost), and where
/// the true costs lay with it.
fn fit(markets: &[Market], jobs: &[Job], knowledge: Knowledge) -> (Likeness, Vec<f64>) {
    let mut best: Option<(f64, Likeness, Vec<f64>)> = None;
    for likeness in LIKENESSES.map(Likeness) {
        let scored = score::score(markets, jobs, knowledge, likeness, Calibration::default());
        let open: Vec<&Scored> = scored.iter().filter(|job| !job.certain).collect();
        let error = open.iter().map(|job| job.crps).sum::<f64>() / open.len().max(1) as f64;
        println!("  likeness {:>5}: CRPS {error:.4} over {} jobs", likeness.0, open.len());
        let places = open.iter().map(|job| job.place).collect();
        if best.as_ref().is_none_or(|(least, ..)| error < *least) {
            best = Some((error, likeness, places));
        }
    }
    best.map_or((Likeness(10.0), Vec::new()), |(_, likeness, places)| (likeness, places))
}

fn print_scores(name: &str, jobs: &[Scored], markets: &[Market]) {
    let below_p50 = share(jobs, |job| job.truth <= job.p50);
    let strictly = share(jobs, |job| job.truth < job.p50);
    let below_p95 = share(jobs, |job| job.truth <= job.p95);
    println!(
        "{} {name}, {} stretches of time: at or below P50 {:.1} % (below {:.1} %), at or below P95 {:.1} %",
        jobs.len(),
        jobs::stretches(jobs),
        100.0 * below_p50,
        100.0 * strictly,
        100.0 * below_p95
    );
    for file in jobs::files(markets) {
        let of_file: Vec<&Scored> = jobs.iter().filter(|job| markets[job.job.market].file == file).collect();
        let part = |test: fn(&Scored) -> bool| {
            100.0 * of_file.iter().filter(|job| test(job)).count() as f64 / of_file.len().max(1) as f64
        };
        println!(
            "  {file:<32} {:>4} jobs, P50 {:>5.1} %, P95 {:>5.1} %",
            of_file.len(),
            part(|job| job.truth <= job.p50),
            part(|job| job.truth <= job.p95)
        );
    }
}

fn share(jobs: &[Scored], test: impl Fn(&Scored) -> bool) -> f64 {
    jobs.iter().filter(|job| test(job)).count() as f64 / jobs.len().max(1) as f64
}
