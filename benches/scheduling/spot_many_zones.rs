//! One job over many zones that answer only when tried.

use neap_scheduler::policy::deadline::{Adaptive, DeadlinePolicy, Greedy, UniformProgress};
use neap_scheduler::sim::spot::{JobTerms, Planned, ZoneTrace, plan_zones, simulate};

use crate::Result;
use crate::data::{self, ManyZones, MoveTime, hours, start_tick};
use crate::one_zone::verdict;

pub fn run(set: &str, recording: &str, published: &str, names: &[&str]) -> Result {
    println!("\n== many zones: {set}, {} zones", names.len());
    let recorded = data::zones(recording)?;
    let zones = pick(&recorded, names)?;
    let runs = data::many_zone_runs(published)?;
    conformance(&runs, &zones);
    println!("ratio windows       ours   skynomad    half-gap    optimal     up(s)     up(a)    up(ap)  missed");
    let root = Adaptive::new();
    for of_ratio in runs.chunk_by(|a, b| a.ratio == b.ratio) {
        let mut misses = 0;
        let mut ours = 0.0;
        for run in of_ratio {
            let window = data::many_zones(&zones, start_tick(run.start_h, zones[0].tick), MoveTime::Counted);
            let outcome = simulate(run.terms, &window, root.fresh().as_mut());
            misses += u32::from(outcome.missed);
            ours += outcome.cost.as_dollars() / of_ratio.len() as f64;
        }
        let mean = |policy: &str| of_ratio.iter().map(|run| run.paid[policy]).sum::<f64>() / of_ratio.len() as f64;
        let (skynomad, optimal, ratio) = (mean("skynomad"), mean("optimal_dp"), of_ratio[0].ratio);
        let half = (skynomad + optimal) / 2.0;
        let gate = match (ours <= skynomad && misses == 0, ratio >= 1.2) {
            (pass, true) => verdict(pass),
            (true, false) => "(no gate) below",
            (false, false) => "(no gate) above",
        };
        println!(
            "{ratio:5} {:7} {ours:10.2} {skynomad:10.2} {half:11.2} {optimal:10.2} {:9.2} {:9.2} {:9.2} {misses:7}  gate {gate}, goal {}",
            of_ratio.len(),
            mean("up_s"),
            mean("up_a"),
            mean("up_ap"),
            verdict(ours <= half),
        );
    }
    Ok(())
}

fn pick<'a>(recorded: &'a [ZoneTrace], names: &[&str]) -> Result<Vec<&'a ZoneTrace>> {
    let zone = |name: &&str| {
        recorded.iter().find(|zone| zone.zone == *name).ok_or_else(|| format!("no recording of {name}").into())
    };
    names.iter().map(zone).collect()
}

/// How closely the plan of who knows the future, run in our world, agrees with the published one. The published runs
/// plan with the time that moves take but do not spend it; so is it done here, and only here.
fn conformance(runs: &[ManyZones], zones: &[&ZoneTrace]) {
    let (mut exact, mut worst, mut sum, mut gated) = (0, 0.0f64, 0.0, 0.0f64);
    for run in runs {
        let start = start_tick(run.start_h, zones[0].tick);
        let plan = plan_zones(run.terms, &data::many_zones(zones, start, MoveTime::Counted)).unwrap_or_default();
        let world = data::many_zones(zones, start, MoveTime::NotCounted);
        let cost = simulate(run.terms, &world, &mut Planned::new(plan)).cost.as_dollars();
        let off = (cost / run.paid["optimal_dp"] - 1.0).abs();
        exact += u32::from(off < 1e-5);
        worst = worst.max(off);
        gated = if run.ratio >= 1.2 { gated.max(off) } else { gated };
        sum += off;
    }
    println!(
        "agrees optimal {exact} of {} within 0.001 %, mean {:.3} % off, worst {:.2} %, worst at ratio >= 1.2 {:.2} %",
        runs.len(),
        sum / runs.len() as f64 * 100.0,
        worst * 100.0,
        gated * 100.0,
    );
}

/// Sets of zones, other windows and other deadlines than the published ones.
const FURTHER: [(&str, &[&str]); 7] = [
    (
        "gcp_h100_2025",
        &["us-central1-a", "us-west1-a", "europe-west1-c", "europe-west3-c", "asia-southeast1-b", "asia-south2-b"],
    ),
    ("gcp_h100_2025", &["asia-southeast1-b", "asia-south2-b", "us-east5-a"]),
    ("gcp_h100_2025", &["us-east4-a", "us-west1-a", "europe-west3-c"]),
    ("gcp_h100_2025", &["europe-west3-c", "asia-southeast1-b"]),
    ("aws_v100_2023_02", &["us-east-1c", "us-east-2b", "us-west-2a"]),
    ("aws_v100_2023_02", &["us-east-1a", "us-east-1c", "us-east-1f"]),
    ("aws_v100_2023_02", &["us-east-1a", "us-east-1c", "us-east-1f", "us-east-2b", "us-west-2a", "us-west-2b"]),
];

pub fn further() -> Result {
    println!(
        "\n== many zones: other sets of zones, windows and deadlines (Greedy and Uniform Progress try the cheapest first)"
    );
    let (mut worse, mut cells, mut misses) = (0, 0, 0);
    for (recording, names) in FURTHER {
        let recorded = data::zones(recording)?;
        let zones = pick(&recorded, names)?;
        println!("{recording}: {}", names.join(" "));
        for ratio in [1.15, 1.3, 1.5, 2.0] {
            let deadline = 51.8333;
            let terms = JobTerms { work: hours(deadline / ratio), deadline: hours(deadline), restart: hours(0.2) };
            let [ours, greedy, uniform] = means(&zones, terms, &mut misses);
            cells += 1;
            let missed = ours > greedy.min(uniform);
            worse += u32::from(missed);
            let mark = if missed { "  above the better peer" } else { "" };
            println!("  {ratio:4}  ours {ours:9.2}  greedy {greedy:9.2}  uniform {uniform:9.2}{mark}");
        }
    }
    println!("cells above the better peer: {worse} of {cells}; deadlines missed by any policy: {misses}");
    Ok(())
}

/// Mean dollars of ours, Greedy and Uniform Progress over windows three quarters of a deadline apart.
fn means(zones: &[&ZoneTrace], terms: JobTerms, misses: &mut u32) -> [f64; 3] {
    let length = (terms.deadline.get() / zones[0].tick.get()) as usize;
    let last = zones[0].ticks().saturating_sub(length + 1);
    let root = Adaptive::new();
    let (mut sums, mut windows) = ([0.0; 3], 0.0);
    for start in (length / 3..last).step_by(length * 3 / 4) {
        let window = data::many_zones(zones, start, MoveTime::Counted);
        let policies: [Box<dyn DeadlinePolicy>; 3] =
            [root.fresh(), Box::new(Greedy), Box::new(UniformProgress::default())];
        for (sum, mut policy) in sums.iter_mut().zip(policies) {
            let outcome = simulate(terms, &window, policy.as_mut());
            *misses += u32::from(outcome.missed);
            *sum += outcome.cost.as_dollars();
        }
        windows += 1.0;
    }
    sums.map(|sum| sum / windows)
}
