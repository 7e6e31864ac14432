//! The simulator of elastic training jobs against Sia's own, on a small committed slice of its measurements; and whole
//! simulations with every policy. `cargo bench -p neap-scheduler --bench adaptive` does the same with all of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use neap_scheduler::model::{MicroUsd, MicroUsdPerHour, Millis};
use neap_scheduler::policy::adaptive::{AllocationPolicy, Fifo, Goodput, LeastService};
use neap_scheduler::sim::adaptive::{
    ClusterSpec, FixedRun, RunSettings, SimulationReport, Table, Untimed, UsePoint, World, best_run_seconds,
    completion_seconds, read_traces, simulate,
};
use neap_scheduler::sim::cluster::UseSample;
use neap_scheduler::sim::read_rows;
use serde::Deserialize;

const APPS: &str = include_str!("data/adaptive/apps.csv");
const THROUGHPUT: &str = include_str!("data/adaptive/throughput.csv");
const EFFICIENCY: &str = include_str!("data/adaptive/statistical_efficiency.csv");
const CONFORMANCE: &str = include_str!("data/adaptive/conformance.csv");
const TRACE: &str = include_str!("data/adaptive/trace.csv");

fn world_of(apps: &str, throughput: &str, efficiency: &str) -> Result<World, String> {
    World::read(
        Table { file: "apps.csv", text: apps },
        Table { file: "throughput.csv", text: throughput },
        Table { file: "efficiency.csv", text: efficiency },
    )
    .map_err(|error| error.to_string())
}

fn world() -> World {
    world_of(APPS, THROUGHPUT, EFFICIENCY).unwrap()
}

#[derive(Deserialize)]
struct SingleRun {
    app: String,
    gpu: String,
    placement: String,
    target_batch: u32,
    completion_s: f64,
}

#[test]
fn single_jobs_take_as_long_as_in_sias_simulator() {
    let world = world();
    let runs = read_rows::<SingleRun>("conformance.csv", CONFORMANCE).unwrap();
    assert_eq!(runs.len(), 35);
    for run in runs.into_iter().map(|row| row.value) {
        let gpus: Vec<u32> = run.placement.split('x').map(|gpus| gpus.parse().unwrap()).collect();
        let fixed = FixedRun { gpu: &run.gpu, gpus_per_node: &gpus, batch: run.target_batch };
        let seconds = completion_seconds(&world.apps[&run.app], fixed, 60.0, 10_000).unwrap();
        let off = (seconds / run.completion_s - 1.0).abs();
        assert!(off < 0.01, "{} on {} {}: {seconds} s, Sia {}", run.app, run.gpu, run.placement, run.completion_s);
    }
}

fn policies() -> [Box<dyn AllocationPolicy>; 3] {
    [Box::new(Fifo), Box::new(LeastService), Box::new(Goodput::default())]
}

fn run(policy: &mut dyn AllocationPolicy, rigid: bool) -> SimulationReport {
    let world = world();
    let cluster = ClusterSpec::of(&[("aws", 2, 4), ("rtx", 1, 8), ("dgx-ext", 1, 8)]);
    let trace = read_traces(Table { file: "trace.csv", text: TRACE }, &world).unwrap().remove(0);
    let settings = RunSettings { rigid, ..RunSettings::default() };
    simulate(&world, &cluster, &trace, policy, settings, &mut Untimed).unwrap()
}

#[test]
fn every_policy_ends_every_job_and_accounts_for_every_gpu_second() {
    for rigid in [false, true] {
        for policy in &mut policies() {
            let report = run(policy.as_mut(), rigid);
            let summary = report.summary();
            assert_eq!(summary.jobs, 8, "{}", report.policy);
            let by_job: f64 = report.jobs.iter().map(|job| job.gpu_seconds).sum();
            let by_round: u32 = report.use_over_time.iter().flat_map(|point| &point.held).sum();
            assert_eq!(by_job, f64::from(by_round) * 60.0, "{}", report.policy);
            assert_eq!(by_job, report.gpu_seconds.iter().sum::<f64>());
            let each_holds_some = |point: &UsePoint| point.jobs - point.waiting <= point.held.iter().sum();
            assert!(report.use_over_time.iter().all(each_holds_some), "{}", report.policy);
            let ordered = |job: &neap_scheduler::sim::adaptive::JobOutcome| {
                job.submit <= job.start && job.start + 50.0 <= job.end
            };
            assert!(report.jobs.iter().all(ordered), "{:?}", report.jobs);
            assert!(summary.utilisation > 0.0 && summary.utilisation <= 1.0);
        }
    }
}

#[test]
fn a_billed_report_has_the_same_jobs_and_its_series_end_at_the_totals() {
    let report = run(&mut Goodput::default(), false);
    let billed = report.billed(MicroUsdPerHour::new(3_600_000));
    assert_eq!((billed.jobs.len(), billed.nodes.len(), billed.unfinished()), (8, 4, 0));
    let off = billed.mean_completion_s() / 3_600.0 / report.summary().jct_mean_hours - 1.0;
    assert!(off.abs() < 1e-6, "{off}");
    assert_eq!(billed.timeline.last().unwrap().cost, billed.cost());
    let by_job: MicroUsd = billed.jobs.iter().map(|job| job.cost).sum();
    assert!(by_job < billed.cost(), "{by_job} of {}", billed.cost());
    let held = |pair: &[UseSample]| pair[1].at.since(pair[0].at).get() * u64::from(pair[0].gpus_held);
    let drawn: u64 = billed.timeline.windows(2).map(held).sum();
    assert_eq!(drawn, billed.jobs.iter().map(|job| job.gpu_time.get()).sum::<u64>());
    assert!(billed.nodes.iter().all(|node| node.busy > Millis::ZERO && node.busy + node.idle == billed.end));
}

#[test]
fn a_gpu_type_that_nothing_runs_on_is_refused() {
    let refused = world().check_cluster(&"aws:2x4,tpu:1x8".parse().unwrap(), "--cluster").unwrap_err();
    let expected =
        "A005 --cluster:1: column gpu: \"tpu\": no application runs on such a GPU; there are measurements of aws";
    assert!(refused.to_string().starts_with(expected), "{refused}");
}

#[test]
fn the_same_trace_gives_the_same_report() {
    for (mut one, mut other) in policies().into_iter().zip(policies()) {
        assert_eq!(run(one.as_mut(), false), run(other.as_mut(), false));
    }
}

#[test]
fn goodput_is_faster_than_queues_and_no_job_beats_its_isolated_time() {
    let world = world();
    let goodput = run(&mut Goodput::default(), false);
    let fifo = run(&mut Fifo, true);
    assert!(goodput.summary().jct_mean_hours < 0.6 * fifo.summary().jct_mean_hours);
    let best = |app: &str| {
        let app = &world.apps[app];
        let shapes: [(&str, &[u32]); 4] = [("aws", &[4, 4]), ("rtx", &[8]), ("dgx-ext", &[8]), ("dgx-ext", &[4])];
        shapes.iter().filter_map(|(gpu, gpus)| best_run_seconds(app, gpu, gpus)).fold(f64::INFINITY, f64::min)
    };
    for job in &goodput.jobs {
        // Ends of epochs are rounded to whole seconds, which gains up to half a second for each of them.
        let rounding = 0.5 * f64::from(world.apps[&job.app].epochs_max);
        assert!(job.end - job.start >= best(&job.app) - rounding, "{job:?}");
    }
    assert!(goodput.worst_fairness(&world) > 0.0);
}

#[test]
fn bad_rows_are_refused_with_their_place_and_a_code() {
    let apps = |row: &str| world_of(&format!("{}\n{row}\n", APPS.lines().next().unwrap()), "", "").unwrap_err();
    assert_eq!(
        apps("bert,aws,12,384,4,12,2,-120,1.2,1"),
        "A003 apps.csv:2: column restart_s: \"-120\": must not be negative"
    );
    assert!(apps("bert,aws,12,384,4,12,2,NaN,1.2,1").starts_with("A002 apps.csv:2: column restart_s"));
    assert!(apps("bert,aws,12,384,4,12,2,1e9,1.2,1").starts_with("A004 "));
    assert!(apps("bert,aws,12,384,4,3,2,120,1.2,1").starts_with("A007 apps.csv:2: column max_local_bsz"));
    assert!(apps("bert,aws,twelve,384,4,3,2,120,1.2,1").starts_with("A001 apps.csv:2: column init_batch_size"));

    let header = THROUGHPUT.lines().next().unwrap();
    let speed = |row: &str| world_of(APPS, &format!("{header}\n{row}\n"), "").unwrap_err();
    assert_eq!(
        speed("bert,tpu,placements,1,1,1,4,0.1,0"),
        "A005 throughput.csv:2: column gpu: \"tpu\": the application does not run on such a GPU"
    );
    assert!(speed("gpt,aws,placements,1,1,1,4,0.1,0").starts_with("A006 "));
    assert!(speed("bert,aws,placements,1,1,1,4,-0.1,0").starts_with("A003 "));
    assert!(speed("bert,aws,placements,1,1,1,4,inf,0").starts_with("A002 "));
    assert!(speed("bert,aws,placements,1,1,1,4,0.1,0.2").starts_with("A004 throughput.csv:2: column sync_time_s"));
    assert!(speed("bert,aws,placements,1x,1,1,4,0.1,0").starts_with("A001 throughput.csv:2: column placement"));
    assert!(world_of(APPS, THROUGHPUT, EFFICIENCY.lines().next().unwrap()).unwrap_err().starts_with("A008 "));

    let world = world();
    let header = TRACE.lines().next().unwrap();
    let trace = |rows: &str| {
        let text = format!("{header}\n{rows}\n");
        read_traces(Table { file: "t.csv", text: &text }, &world).unwrap_err().to_string()
    };
    assert_eq!(trace("t,a,-5,bert,1,12,"), "A003 t.csv:2: column submit_s: \"-5\": must not be negative");
    assert!(trace("t,a,5,vgg,1,12,").starts_with("A006 t.csv:2: column app"));
    assert!(trace("t,a,5,bert,0,12,").starts_with("A003 t.csv:2: column req_gpus"));
    assert!(trace("t,a,5,bert,-1,12,").starts_with("A003 t.csv:2: column req_gpus: \"-1\""));
    assert!(trace("t,a,NaN,bert,1,12,").starts_with("A002 t.csv:2: column submit_s"));
    assert!(trace("t,a,5e9,bert,1,12,").starts_with("A004 t.csv:2: column submit_s"));
    assert!(trace("t,a,5,bert,1,12,\nt,b,4,bert,1,12,").starts_with("A009 t.csv:3: column submit_s: \"4\""));
    assert!(trace("t,a,5,bert,1,12,\nt,a,6,bert,1,12,").starts_with("A007 t.csv:3: column job"));
}
