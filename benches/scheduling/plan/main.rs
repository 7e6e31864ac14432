//! Is `neap plan` honest? 500 jobs on recorded spot markets, planned before and paid after.
//!
//! Question: does the true cost lie below the printed P50 in half of the cases (40–60 %) and below the printed P95 in
//! 90–99 %, for jobs in the second half of each recording, when everything that is fitted is fitted on the first half?
//! And does one plan, with its alternatives, take less than a second?
//! Bound: were the windows independent, a perfect P50 would be hit with a standard error of 2.2 percentage points and a
//! perfect P95 with 1.0. They are not: zones of one recording rise and fall together, so the number of separate
//! stretches of time is printed beside the number of jobs.
//!
//! `cargo bench -p neap-scheduler --bench plan`; with `-- times` only the time of plans is measured, and with
//! `--profile dev` as users have it. The recordings are read from `NEAP_BENCH_DATA`, by default
//! `../shared/bench/scheduling` beside this repository.

#![allow(clippy::disallowed_methods, reason = "a bench reads files and the clock")]

mod jobs;
#[path = "../recorded.rs"]
mod recorded;
mod score;

use std::time::Instant;

use jobs::{Half, Job, Market};
use neap_scheduler::estimate::{Calibration, FITTED, Likeness};
use score::{Knowledge, Scored};

/// How many whole plans are timed.
const TIMED: usize = 50;

/// The likenesses that are tried on the first half.
const LIKENESSES: [f64; 5] = [0.02, 0.05, 0.1, 0.3, 10.0];

fn main() {
    let Some(markets) = jobs::read_markets() else { return };
    if std::env::args().any(|argument| argument == "times") {
        let jobs = jobs::lay_out(&markets, Half::Second, 0);
        print_times(&markets, &jobs, FITTED.0, FITTED.1);
        return;
    }
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
    let training = jobs::lay_out(markets, Half::First, 0);
    let (likeness, calibration) = fit(markets, &training, knowledge);
    println!(
        "fitted on {} jobs of the first half: likeness {}, P50 read at {:.3}, P95 at {:.3}",
        training.len(),
        likeness.0,
        calibration.p50,
        calibration.p95
    );
    let fitted = [(likeness, calibration)];
    let [(apart, certain), (overlapping, _)] = [0, 1].map(|pass| {
        let jobs = jobs::lay_out(markets, Half::Second, pass);
        let scored =
            jobs.iter().enumerate().flat_map(|(number, job)| score::score(markets, number, job, knowledge, &fitted));
        scored.partition::<Vec<Scored>, _>(|job| !job.certain)
    });
    let beside = apart.len();
    let chosen = jobs::choose(apart, overlapping);
    print_scores(&chosen, beside, markets);
    println!(
        "left out, their cost is certain: {} jobs, {:.1} % of them at or below P95",
        certain.len(),
        100.0 * share(&certain, |job| job.truth <= job.p95)
    );
    let jobs: Vec<Job> = chosen.into_iter().map(|scored| scored.job).collect();
    print_times(markets, &jobs, likeness, calibration);
}

/// The likeness with the smallest mean error of the drawn distribution (CRPS, as a share of the true cost), and the
/// calibration for it.
fn fit(markets: &[Market], jobs: &[Job], knowledge: Knowledge) -> (Likeness, Calibration) {
    let tried = LIKENESSES.map(|likeness| (Likeness(likeness), Calibration::default()));
    let scored: Vec<Vec<Scored>> =
        jobs.iter().enumerate().map(|(number, job)| score::score(markets, number, job, knowledge, &tried)).collect();
    let mut best = (f64::INFINITY, tried[0]);
    for (place, (likeness, _)) in tried.into_iter().enumerate() {
        let open: Vec<&Scored> = scored.iter().map(|of_job| &of_job[place]).filter(|job| !job.certain).collect();
        let error = open.iter().map(|job| job.crps).sum::<f64>() / open.len().max(1) as f64;
        println!("  likeness {:>5}: CRPS {error:.4} over {} jobs", likeness.0, open.len());
        if error < best.0 {
            best = (error, (likeness, Calibration::fit(open.iter().map(|job| job.place).collect())));
        }
    }
    best.1
}

/// How long whole plans take, with their alternatives.
fn print_times(markets: &[Market], jobs: &[Job], likeness: Likeness, calibration: Calibration) {
    let time = |job: &Job| {
        let started = Instant::now();
        score::whole_plan(&markets[job.market], job, likeness, calibration);
        started.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = jobs.iter().step_by((jobs.len() / TIMED).max(1)).map(time).collect();
    times.sort_by(f64::total_cmp);
    let (median, worst) = (times.get(times.len() / 2), times.last());
    println!(
        "{} whole plans with alternatives: median {:.0} ms, worst {:.0} ms",
        times.len(),
        median.copied().unwrap_or_default(),
        worst.copied().unwrap_or_default()
    );
}

fn print_scores(jobs: &[Scored], beside: usize, markets: &[Market]) {
    let below_p50 = share(jobs, |job| job.truth <= job.p50);
    let strictly = share(jobs, |job| job.truth < job.p50);
    let below_p95 = share(jobs, |job| job.truth <= job.p95);
    println!(
        "{} jobs, {} of them overlap no other in their zone, {} separate stretches of time",
        jobs.len(),
        beside.min(jobs.len()),
        jobs::stretches(jobs)
    );
    println!(
        "true cost at or below P50 {:.1} % (below it {:.1} %), at or below P95 {:.1} % (below it {:.1} %)",
        100.0 * below_p50,
        100.0 * strictly,
        100.0 * below_p95,
        100.0 * share(jobs, |job| job.truth < job.p95)
    );
    let wide = jobs.iter().map(|job| job.p95.as_dollars() / job.p50.as_dollars()).sum::<f64>() / jobs.len() as f64;
    println!("P95 is on average {wide:.2} times P50");
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
