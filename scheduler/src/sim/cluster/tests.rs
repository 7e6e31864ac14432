//! Small worlds whose outcome is known, and random ones in which nothing may be lost.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::model::{CpuMillis, GpuCount, Gpus, Market, MemoryMib, MicroUsd, MicroUsdPerHour, Millis, NodeSize};
use crate::policy::{Backfill, FairShare, Fifo, Objective, POLICY_NAMES, Policy, Priority};
use crate::spec::WorkerRange;

const HOUR: Millis = Millis::from_secs(3_600);

fn rigid(name: &str, submit_s: u64, workers: u32, run_s: u64) -> SimJob {
    SimJob::rigid(name, Millis::from_secs(submit_s), workers, Millis::from_secs(run_s))
}

/// `nodes` nodes that each carry one worker.
fn fixed(nodes: usize, jobs: Vec<SimJob>) -> World {
    let one = |job: SimJob| SimJob { gpus: crate::model::GpuNeed { count: GpuCount(1), models: Vec::new() }, ..job };
    let jobs = jobs.into_iter().map(one).collect();
    World {
        jobs,
        nodes: gpu_cluster(nodes, 1, MicroUsdPerHour::new(3_600)),
        providers: Vec::new(),
        settings: Settings::default(),
    }
}

fn provider(name: &str, market: Market, price: u64) -> Provider {
    Provider {
        name: name.to_owned(),
        size: NodeSize { cpus: CpuMillis(1_000), memory: MemoryMib(1_000) },
        gpus: Gpus::default(),
        market,
        price: MicroUsdPerHour::new(price),
        billing_min: Millis::from_secs(60),
        quota: 4,
        boot: (Millis::from_secs(30), Millis::from_secs(90)),
        failing_permille: 0,
        interruptions_per_1000_h: 0,
        notice: Millis::from_secs(30),
    }
}

fn rented(jobs: Vec<SimJob>, providers: Vec<Provider>) -> World {
    World { jobs, nodes: Vec::new(), providers, settings: Settings::default() }
}

fn waits(report: &Report) -> Vec<f64> {
    report.jobs.iter().map(|job| job.wait().unwrap().as_secs_f64()).collect()
}

#[test]
fn jobs_on_one_node_run_one_after_the_other() {
    let report = simulate(&fixed(1, vec![rigid("a", 0, 1, 100), rigid("b", 10, 1, 50)]), &Fifo);
    assert_eq!(waits(&report), [0.0, 90.0]);
    assert_eq!(report.jobs[1].completion(), Some(Millis::from_secs(140)));
    assert_eq!((report.jobs[0].cost, report.cost()), (MicroUsd::new(100), MicroUsd::new(150)));
    assert_eq!((report.jobs[1].worker_time, report.jobs[1].gpu_time), (Millis::from_secs(50), Millis::from_secs(50)));
    let use_of = |sample: &UseSample| (sample.at.get(), sample.gpus, sample.gpus_held, sample.waiting);
    let timeline: Vec<_> = report.timeline.iter().map(use_of).collect();
    assert_eq!(timeline, [(0, 1, 1, 0), (10_000, 1, 1, 1), (100_000, 1, 1, 0), (150_000, 1, 0, 0)]);
}

#[test]
fn backfill_lets_a_short_job_pass_without_delaying_the_first() {
    let mut jobs =
        vec![rigid("runs", 0, 1, 100), rigid("wide", 1, 2, 100), rigid("short", 2, 1, 50), rigid("long", 3, 1, 500)];
    jobs.iter_mut().for_each(|job| job.estimate = Some(Estimate::EXACT));
    let world = fixed(2, jobs);
    let (fifo, backfill) = (simulate(&world, &Fifo), simulate(&world, &Backfill));
    assert_eq!(waits(&fifo), [0.0, 99.0, 198.0, 197.0]);
    assert_eq!(waits(&backfill), [0.0, 99.0, 0.0, 197.0]);
    let changes = diff(&fifo, &backfill);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].name.as_str(), changes[0].wait_s), ("short", Some(-198.0)));
}

#[test]
fn without_an_estimate_nothing_passes() {
    let world = fixed(2, vec![rigid("runs", 0, 1, 100), rigid("wide", 1, 2, 100), rigid("short", 2, 1, 50)]);
    assert_eq!(diff(&simulate(&world, &Fifo), &simulate(&world, &Backfill)), []);
}

#[test]
fn fair_share_serves_the_project_that_used_less() {
    let mut jobs = vec![rigid("first", 0, 1, 100), rigid("more", 1, 1, 100), rigid("other", 2, 1, 100)];
    jobs[2].project = "other".to_owned();
    let report = simulate(&fixed(1, jobs), &FairShare::default());
    assert_eq!(waits(&report), [0.0, 199.0, 98.0]);
}

#[test]
fn a_preempted_job_goes_on_from_its_checkpoint() {
    let mut jobs = vec![rigid("low", 0, 1, 1_000), rigid("high", 250, 1, 100)];
    (jobs[0].priority, jobs[1].priority) = (100, 900);
    jobs[0].checkpoint_every = Some(Millis::from_secs(100));
    let report = simulate(&fixed(1, jobs), &Priority);
    assert_eq!(waits(&report), [0.0, 0.0]);
    assert_eq!((report.jobs[0].preemptions, report.jobs[0].lost), (1, Millis::from_secs(50)));
    assert_eq!(report.jobs[0].completion(), Some(Millis::from_secs(1_150)));
}

#[test]
fn what_is_not_worth_its_loss_is_not_preempted() {
    let mut jobs = vec![rigid("low", 0, 1, 1_000), rigid("high", 950, 1, 100)];
    (jobs[0].priority, jobs[1].priority) = (500, 501);
    jobs[0].estimate = Some(Estimate::EXACT);
    let report = simulate(&fixed(1, jobs), &Priority);
    assert_eq!((report.jobs[0].preemptions, waits(&report)[1]), (0, 50.0));
}

#[test]
fn a_job_rents_what_it_needs_and_everything_goes_back() {
    let report =
        simulate(&rented(vec![rigid("a", 0, 2, 3_600)], vec![provider("p/t/od", Market::OnDemand, 1_000_000)]), &Fifo);
    assert_eq!((report.nodes.len(), report.unfinished()), (2, 0));
    assert!(report.cost() > MicroUsd::new(2_000_000) && report.cost() < MicroUsd::new(2_100_000), "{}", report.cost());
    assert!(report.nodes.iter().all(|node| node.boot >= Millis::from_secs(30) && node.busy == HOUR));
}

#[test]
fn failed_launches_are_tried_again_elsewhere() {
    let mut broken = provider("p/cheap/od", Market::OnDemand, 100_000);
    broken.failing_permille = 1_000;
    let world = rented(vec![rigid("a", 0, 1, 600)], vec![broken, provider("p/dear/od", Market::OnDemand, 500_000)]);
    let report = simulate(&world, &Fifo);
    assert_eq!(report.unfinished(), 0);
    assert!(report.nodes.iter().any(|node| node.offer == "p/dear/od" && !node.lost));
}

#[test]
fn a_deadline_rents_more_workers() {
    let mut job = rigid("a", 0, 1, 4 * 3_600);
    job.workers = WorkerRange { min: 1, target: 4, max: 4 };
    job.objective = Objective::MinCost;
    job.estimate = Some(Estimate::EXACT);
    let end = |job: SimJob| {
        simulate(&rented(vec![job], vec![provider("p/t/od", Market::OnDemand, 1_000)]), &Fifo).jobs[0].ended.unwrap()
    };
    assert!(end(job.clone()) > Millis::from_secs(4 * 3_600));
    job.deadline = Some(Millis::from_secs(2 * 3_600));
    assert!(end(job) <= Millis::from_secs(2 * 3_600));
}

fn spot_world(seed: u64) -> World {
    let mut spot = provider("p/t/spot", Market::Spot, 300_000);
    (spot.interruptions_per_1000_h, spot.failing_permille) = (400, 100);
    let mut jobs: Vec<SimJob> = (0..8_u32)
        .map(|at| rigid(&format!("j{at}"), u64::from(at) * 700, 1 + at % 3, 2_000 + u64::from(at) * 500))
        .collect();
    for (at, job) in jobs.iter_mut().enumerate() {
        job.market = Market::Spot;
        job.either_market = at % 2 == 0;
        job.priority = [100, 500, 900][at % 3];
        job.checkpoint_every = Some(Millis::from_secs(300));
        job.restart = Millis::from_secs(20);
        job.estimate = (at % 4 != 3).then_some(Estimate::EXACT);
        job.workers.min = 1;
    }
    let mut world = rented(jobs, vec![spot, provider("p/t/od", Market::OnDemand, 1_000_000)]);
    world.settings.seed = seed;
    world
}

proptest! {
    // A fixed seed: a rare history that fails is found by the long command, not by whoever changes something else.
    #![proptest_config(ProptestConfig { cases: 6, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// With failing launches and spot nodes taken back, every job ends, every node's time and money add up, and the same seed gives the same report.
    #[test]
    fn a_rough_world_still_finishes(seed in any::<u64>()) {
        for name in POLICY_NAMES {
            let policy = <dyn Policy>::by_name(name).unwrap();
            let report = simulate(&spot_world(seed), &*policy);
            prop_assert_eq!(report.unfinished(), 0, "{}", name);
            prop_assert_eq!(&simulate(&spot_world(seed), &*policy), &report);
            let jobs: MicroUsd = report.jobs.iter().map(|job| job.cost).sum();
            prop_assert!(jobs <= report.cost());
            prop_assert!(report.jobs.iter().all(|job| job.cost > MicroUsd::ZERO));
            prop_assert_eq!(report.timeline.last().unwrap().cost, report.cost());
            let pairs = report.timeline.windows(2);
            prop_assert!(pairs.clone().all(|pair| pair[0].at < pair[1].at && pair[0].cost <= pair[1].cost));
            let drawn: u64 = pairs.map(|pair| pair[1].at.since(pair[0].at).get() * u64::from(pair[0].workers)).sum();
            prop_assert_eq!(drawn, report.jobs.iter().map(|job| job.worker_time.get()).sum::<u64>());
        }
    }
}

const PHILLY: &str = "vc,submit_s,duration_s,req_gpus\n";
const PODS: &str =
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n";
const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\n";

fn nodes() -> Vec<FixedNode> {
    openb_nodes("n.csv", &format!("{NODES}n0,64000,262144,2,V100M32\n"), MicroUsdPerHour::new(7)).unwrap()
}

#[test]
fn traces_are_read() {
    let jobs = philly_jobs("p.csv", &format!("{PHILLY}x,5,60,16\ny,6,1,1\n"), Some("x"), 8).unwrap();
    assert_eq!(
        (jobs.len(), jobs[0].workers.min, jobs[0].gpus.count, jobs[0].work),
        (1, 2, GpuCount(8), Millis::from_secs(120))
    );
    let text = "LM (batch size 10)\tpython3 x\tlm\t--steps\t1\t134583\t2\tgns\t1\t-1.000000\t1418\t55\n";
    let jobs = shockwave_jobs("s.tsv", text, 4).unwrap();
    assert_eq!((jobs[0].gpus.count, jobs[0].submitted, jobs[0].priority), (GpuCount(2), Millis::from_secs(55), 1));
    let pods = format!("{PODS}p0,12000,16384,1,460,V100M16|V100M32,LS,Running,10,70,\n");
    let pods = openb_pods("o.csv", &pods, &nodes()).unwrap();
    assert_eq!((pods[0].gpus.models.len(), pods[0].work), (2, Millis::from_secs(60)));
    let v100 = Gpus { count: GpuCount(2), model: Some("V100M32".to_owned()) };
    assert_eq!((nodes()[0].gpus.clone(), nodes()[0].price), (v100, MicroUsdPerHour::new(7)));
}

#[test]
fn bad_rows_are_refused_with_their_place_and_a_code() {
    let philly = |rows: &str| philly_jobs("p.csv", &format!("{PHILLY}{rows}\n"), None, 8).unwrap_err().to_string();
    assert_eq!(philly("x,5,-60,16"), "A003 p.csv:2: column duration_s: \"-60\": must not be negative");
    assert_eq!(philly("x,5,60,-1"), "A003 p.csv:2: column req_gpus: \"-1\": must be at least 0");
    assert_eq!(philly("x,5,60,1\ny,4,60,1"), "A009 p.csv:3: column submit_s: \"4\": is before 5, which comes first");
    for (row, code) in
        [("x,5,NaN,1", "A002"), ("x,inf,6,1", "A002"), ("x,5,1e12,1", "A004"), ("x,5,6,99999999", "A004")]
    {
        assert!(philly(row).starts_with(&format!("{code} p.csv:2: column ")), "{row}: {}", philly(row));
    }
    assert!(philly("x,5,6,few").starts_with("A001 p.csv:2: column req_gpus: \"few\""));

    let shockwave = |gpus: &str, priority: &str, duration: &str, arrival: &str| {
        let row = |arrival: &str| format!("LM\tx\tlm\t-s\t1\t9\t{gpus}\tgns\t{priority}\t-1\t{duration}\t{arrival}\n");
        shockwave_jobs("s.tsv", &(row("5") + &row(arrival)), 4).unwrap_err().to_string()
    };
    assert!(shockwave("0", "1", "9", "5").starts_with("A003 s.tsv:1: column scale_factor: \"0\""));
    assert!(shockwave("1", "1001", "9", "5").starts_with("A004 s.tsv:1: column priority: \"1001\""));
    assert!(shockwave("1", "1", "NaN", "5").starts_with("A002 s.tsv:1: column duration_s"));
    assert!(shockwave("1", "1", "9", "4").starts_with("A009 s.tsv:2: column arrival_s: \"4\""));

    let pods = |row: &str| openb_pods("o.csv", &format!("{PODS}{row}\n"), &nodes()).unwrap_err().to_string();
    assert_eq!(
        pods("p0,1,1,1,460,H1000,LS,Running,10,70,"),
        "A005 o.csv:2: column gpu_spec: \"H1000\": no node of the cluster has such a GPU"
    );
    assert!(pods("p0,1,1,1,460,,LS,Running,10,9,").starts_with("A009 o.csv:2: column deletion_time: \"9\""));
    assert!(pods("p0,-1,1,1,460,,LS,Running,10,70,").starts_with("A003 o.csv:2: column cpu_milli"));
    assert!(pods("p0,1,99999999999,1,460,,LS,Running,10,70,").starts_with("A004 o.csv:2: column memory_mib"));
    assert!(pods("p0,1,1,1,460,,LS,Running,nan,70,").starts_with("A002 o.csv:2: column creation_time"));
    let node =
        |row: &str| openb_nodes("n.csv", &format!("{NODES}{row}\n"), MicroUsdPerHour::new(0)).unwrap_err().to_string();
    assert!(node("n0,1,1,-2,P100").starts_with("A003 n.csv:2: column gpu"));
    assert!(node("n0,1,1,9999999,P100").starts_with("A004 n.csv:2: column gpu"));
}
