//! One job in one zone whose availability is seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use neap_scheduler::policy::deadline::{
    Adaptive, DeadlinePolicy, Decision, Greedy, OnDemandOnly, Sighting, UniformProgress, View,
};
use neap_scheduler::sim::spot::{JobTerms, Outcome, Window, ZoneTrace, optimal_one_zone, simulate};

use crate::Result;
use crate::data::{self, OneZone, hours};

/// Sums of cost over on-demand cost.
#[derive(Default, Clone, Copy)]
struct Means {
    runs: f64,
    ours: f64,
    greedy: f64,
    uniform: f64,
    omniscient: f64,
}

impl Means {
    fn add(&mut self, run: &OneZone, ours: f64) {
        let ratio = |usd: f64| usd / run.on_demand;
        self.runs += 1.0;
        self.ours += ratio(ours);
        self.greedy += ratio(run.greedy);
        self.uniform += ratio(run.uniform_progress);
        self.omniscient += ratio(run.omniscient);
    }

    fn mean(self) -> Self {
        let of = |sum: f64| sum / self.runs;
        Self {
            runs: self.runs,
            ours: of(self.ours),
            greedy: of(self.greedy),
            uniform: of(self.uniform),
            omniscient: of(self.omniscient),
        }
    }

    fn row(self, name: &str) -> String {
        let Self { runs, ours, greedy, uniform, omniscient } = self.mean();
        format!("{name:24} {runs:5.0} {ours:10.4} {greedy:10.4} {uniform:10.4} {omniscient:10.4}")
    }
}

const HEAD: &str = "cell                      runs       ours     greedy    uniform omniscient";

pub fn run(set: &str, gate: f64, stretch: f64) -> Result {
    println!("\n== one zone: {set}");
    let (zones, runs) = (data::zones(set)?, data::one_zone_runs(set)?);
    conformance(&runs, &zones);
    let root = Adaptive::new();
    let (mut all, mut cells, mut by_zone) = (Means::default(), BTreeMap::new(), BTreeMap::new());
    let (mut misses, mut ticks, mut spent) = (0, 0u64, Duration::ZERO);
    for run in &runs {
        let window = run.window(&zones).ok_or("a published run names a zone that was not recorded")?;
        let began = Instant::now();
        let outcome = simulate(run.terms(), &window, root.fresh().as_mut());
        spent += began.elapsed();
        ticks += outcome.finished_at.unwrap_or_default().get() / window.tick().get();
        misses += u32::from(outcome.missed);
        let cost = outcome.cost.as_dollars();
        all.add(run, cost);
        let cell = format!("{} h, restart {} h", run.deadline_h, run.overhead_h);
        cells.entry(cell).or_insert_with(Means::default).add(run, cost);
        by_zone.entry(format!("{} {}", run.zone, run.instance)).or_insert_with(Means::default).add(run, cost);
    }
    println!("{HEAD}");
    let mut worse = 0;
    for (name, cell) in &cells {
        let mean = cell.mean();
        let missed = mean.ours > mean.greedy.min(mean.uniform);
        worse += u32::from(missed);
        println!("{}{}", cell.row(name), if missed { "  MISS" } else { "" });
    }
    for (name, zone) in &by_zone {
        println!("{}", zone.row(name));
    }
    println!("{}", all.row("all"));
    let ours = all.mean().ours;
    println!("gate   deadlines missed {misses} (0): {}", verdict(misses == 0));
    println!("gate   mean {ours:.4} <= {gate}: {}", verdict(ours <= gate));
    println!("gate   cells above min(greedy, uniform): {worse} (0): {}", verdict(worse == 0));
    println!("goal   mean {ours:.4} <= {stretch}: {}", verdict(ours <= stretch));
    let [median, p99, longest] = decision_times(&zones[0]);
    println!(
        "speed  {:.1} us a tick, tables included, over {} runs",
        spent.as_secs_f64() * 1e6 / ticks as f64,
        runs.len()
    );
    println!("speed  decision median {median:.1?}, p99 {p99:.1?}, longest (solves the tables) {longest:.1?}");
    Ok(())
}

pub fn verdict(pass: bool) -> &'static str {
    if pass { "pass" } else { "MISS" }
}

/// How closely our runs of the published policies agree with what was published.
fn conformance(runs: &[OneZone], zones: &[ZoneTrace]) {
    let policy_cost = |run: &OneZone, policy: &mut dyn DeadlinePolicy| {
        run.window(zones).map_or(f64::NAN, |window| simulate(run.terms(), &window, policy).cost.as_dollars())
    };
    let omniscient = |run: &OneZone| {
        let best = run.window(zones).and_then(|window| optimal_one_zone(run.terms(), &window));
        best.map_or(f64::NAN, |cost| cost.as_dollars())
    };
    let report = |name: &str, cost: &dyn Fn(&OneZone) -> (f64, f64)| {
        let off: Vec<f64> = runs.iter().map(|run| (cost(run).0 - cost(run).1).abs() / run.on_demand).collect();
        let exact = off.iter().filter(|&&off| off < 1e-5).count();
        let worst = off.iter().copied().fold(0.0, f64::max);
        println!("agrees {name:18} {exact} of {} within 0.001 %, worst {:.4} %", runs.len(), worst * 100.0);
    };
    report("on_demand", &|run| (policy_cost(run, &mut OnDemandOnly), run.on_demand));
    report("greedy", &|run| (policy_cost(run, &mut Greedy), run.greedy));
    report("uniform_progress", &|run| (policy_cost(run, &mut UniformProgress::default()), run.uniform_progress));
    report("omniscient", &|run| (omniscient(run), run.omniscient));
}

/// Recordings that have no published runs and that nothing was tuned on.
pub fn further() -> Result {
    println!("\n== one zone: recordings that nothing was tuned on (48 h of work; no published runs)");
    println!("{:42} {:>5} {:>9} {:>9} {:>9}", "recording, deadline, restart", "runs", "ours", "greedy", "uniform");
    let files =
        ["aws_v100_2023_04", "aws_v100_16node_2023_08", "aws_v100_4node_2023_08", "aws_cpu_2023_04", "gcp_h100_2025"];
    let (mut misses, mut worse, mut cells) = (0, 0, 0);
    for file in files {
        let zones = data::zones(file)?;
        let root = Adaptive::new();
        for (deadline, restart) in [(51.84, 0.05), (51.84, 0.2), (60.0, 0.2), (72.0, 0.05), (72.0, 0.2)] {
            let terms = JobTerms { work: hours(48.0), deadline: hours(deadline), restart: hours(restart) };
            let [ours, greedy, uniform] = means(&zones, terms, &root, &mut misses);
            cells += 1;
            let missed = ours > greedy.min(uniform) + 5e-5;
            worse += u32::from(missed);
            let name = format!("{file} {deadline} h, {restart} h");
            let mark = if missed { "  above the better peer" } else { "" };
            println!("{name:42} {:5} {ours:9.4} {greedy:9.4} {uniform:9.4}{mark}", zones.len() * STARTS);
        }
    }
    println!("cells above the better peer: {worse} of {cells}; deadlines missed by any policy: {misses}");
    for file in BAMBOO {
        println!("read   {file}: {} steps", data::steps(file)?);
    }
    Ok(())
}

/// Step functions of one elastic job each; read here so that a broken row is seen.
const BAMBOO: [&str; 2] = [
    "bamboo_aws-spot-instances-g4dn-xlarge-us-east-1c-2020-11-20-1930-to-2020-11-21-2200",
    "bamboo_aws-spot-instances-p2-xlarge-2020-11-20-to-2020-11-23",
];

/// Windows of each recording, evenly spread.
const STARTS: usize = 3;

/// Mean cost over on-demand cost of ours, Greedy and Uniform Progress.
fn means(zones: &[ZoneTrace], terms: JobTerms, root: &Adaptive, misses: &mut u32) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for zone in zones {
        let spare = zone.ticks().saturating_sub((terms.deadline.get() / zone.tick.get()) as usize + 1);
        for start in (0..STARTS).map(|part| spare * part / (STARTS - 1)) {
            let window = Window::one_zone(zone, start);
            let mut cost = |policy: &mut dyn DeadlinePolicy| {
                let Outcome { cost, missed, .. } = simulate(terms, &window, policy);
                *misses += u32::from(missed);
                cost.as_dollars()
            };
            let whole = cost(&mut OnDemandOnly);
            let costs = [cost(root.fresh().as_mut()), cost(&mut Greedy), cost(&mut UniformProgress::default())];
            sums.iter_mut().zip(costs).for_each(|(sum, cost)| *sum += cost / whole);
        }
    }
    sums.map(|sum| sum / (zones.len() * STARTS) as f64)
}

/// The median, the 99th percentile and the longest decision for a job like the published ones.
fn decision_times(zone: &ZoneTrace) -> [Duration; 3] {
    let terms = JobTerms { work: hours(48.0), deadline: hours(72.0), restart: hours(0.2) };
    let mut timed = Timed { policy: Adaptive::new().fresh(), times: Vec::new() };
    simulate(terms, &Window::one_zone(zone, 0), &mut timed);
    let first = timed.times.iter().copied().max().unwrap_or_default();
    timed.times.sort_unstable();
    let at = |part: f64| timed.times[((timed.times.len() - 1) as f64 * part) as usize];
    [at(0.5), at(0.99), first]
}

struct Timed {
    policy: Box<dyn DeadlinePolicy>,
    times: Vec<Duration>,
}

impl DeadlinePolicy for Timed {
    fn name(&self) -> &'static str {
        self.policy.name()
    }

    fn fresh(&self) -> Box<dyn DeadlinePolicy> {
        self.policy.fresh()
    }

    fn observe(&mut self, sighting: Sighting) {
        self.policy.observe(sighting);
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let began = Instant::now();
        let decision = self.policy.decide(view);
        self.times.push(began.elapsed());
        decision
    }
}
