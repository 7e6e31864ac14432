//! Random valid states of a cluster: every job, node and offer in it could really stand as it stands there.
//!
//! A state is drawn from one seed, so that a failing one is told by a number; nothing in it is tuned to any property.

use rand::RngExt;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::{cluster, job, node, offer, size};
use crate::model::{
    GpuCount, GpuNeed, Gpus, JobId, Market, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeState, Offer, OfferTerms,
    WorkerId,
};
use crate::policy::reservation_room;
use crate::policy::{
    Account, JobDemand, JobTerms, MarketNow, NodeSupply, NodeTerms, Objective, Placed, PlacedRole, Plan, RentAgain,
    Snapshot, WorkLeft,
};
use crate::spec::WorkerRange;

const NOW: Millis = Millis::from_secs(100_000);

/// How much is known about jobs and nodes, and how much jobs leave open. What is known lets workers move, grow and go.
#[derive(Debug, Clone, Copy)]
struct Openness {
    /// How likely a job has an estimate, and a node a price for renting it again.
    known: f64,
    /// How likely a job takes either market, has a deadline, or writes checkpoints.
    open: f64,
    /// The most workers a job may have beyond its least.
    range: u32,
    /// The most interruptions in 1,000 hours.
    interruptions: u32,
}

/// Little, as a job file without extras leaves it; some; and nearly everything, so that most rules of most jobs apply.
const OPENNESS: [Openness; 3] = [
    Openness { known: 0.1, open: 0.1, range: 1, interruptions: 20 },
    Openness { known: 0.5, open: 0.3, range: 3, interruptions: 200 },
    Openness { known: 0.95, open: 0.7, range: 6, interruptions: 3_000 },
];

/// A state of up to 8 jobs, 10 nodes and 4 offers.
pub(crate) fn any_state(seed: u64) -> Snapshot {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let open = *OPENNESS.choose(&mut rng).expect("three kinds of states");
    let nodes: Vec<NodeSupply> = (1..=rng.random_range(0..=10)).map(|id| any_node(&mut rng, open, id)).collect();
    let jobs: Vec<JobDemand> = (1..=rng.random_range(0..=8)).map(|id| any_job(&mut rng, open, id)).collect();
    let mut snapshot = cluster(jobs, nodes, 0);
    snapshot.now = NOW;
    snapshot.offers = (0..rng.random_range(0..=4)).map(|number| any_offer(&mut rng, open, number)).collect();
    for project in ["a", "b"] {
        let account = Account {
            shares: rng.random_range(0..3),
            used: MicroUsd::new(rng.random_range(0..1_000_000)),
            at: Millis::from_secs(rng.random_range(0..100_000)),
        };
        if rng.random_bool(0.5) {
            snapshot.accounts.projects.insert(project.to_owned(), account);
        }
    }
    place(&mut rng, &mut snapshot);
    snapshot
}

/// The jobs that hold no worker, are not ending, and are told to wait.
pub(crate) fn waiting_jobs(snapshot: &Snapshot, plan: &Plan) -> Vec<JobId> {
    let waits = |job: &&JobDemand| !job.started && !job.stopping && plan.waiting.contains_key(&job.id);
    snapshot.jobs.iter().filter(waits).map(|job| job.id).collect()
}

fn any_job(rng: &mut ChaCha8Rng, open: Openness, id: u64) -> JobDemand {
    let min = rng.random_range(1..4);
    let max = min + rng.random_range(0..=open.range);
    JobDemand {
        submitted: Millis::from_secs(rng.random_range(0..50_000)),
        workers: WorkerRange { min, target: rng.random_range(min..=max), max },
        need: size(rng.random_range(1..4)),
        market: any_market(rng),
        max_price: rng.random_bool(0.3).then(|| any_price(rng)),
        separate_server: rng.random_bool(0.2),
        hold_until: rng.random_bool(0.1).then(|| NOW + Millis::from_secs(5)),
        terms: any_terms(rng, open),
        ..job(id, 1, 1)
    }
}

fn any_terms(rng: &mut ChaCha8Rng, open: Openness) -> JobTerms {
    let work = Millis::from_secs(rng.random_range(60..40_000));
    let either_market = rng.random_bool(open.open);
    JobTerms {
        project: (*["a", "b", "c"].choose(rng).expect("three projects")).to_owned(),
        priority: *[100, 500, 500, 900].choose(rng).expect("four priorities"),
        either_market,
        market_now: (either_market && rng.random_bool(0.5)).then(|| match rng.random_range(0..3) {
            0 => MarketNow::Only(Market::Spot),
            1 => MarketNow::Only(Market::OnDemand),
            _ => MarketNow::Wait { slack: Millis::from_secs(600) },
        }),
        objective: *[Objective::MinCost, Objective::MinTime, Objective::Balanced]
            .choose(rng)
            .expect("three objectives"),
        deadline: rng.random_bool(open.open).then(|| NOW + Millis::from_secs(rng.random_range(0..40_000))),
        rate_max: rng.random_bool(0.2).then(|| MicroUsdPerHour::new(rng.random_range(5_000..100_000))),
        gpus: any_gpu_need(rng),
        work: rng.random_bool(open.known).then(|| WorkLeft {
            low: Millis::new(work.get() / rng.random_range(1..4)),
            high: Millis::new(work.get() * rng.random_range(1..4)),
            serial_permille: rng.random_bool(0.8).then(|| rng.random_range(0..300)),
            ..WorkLeft::exactly(work)
        }),
        running_since: None,
        since_checkpoint: Millis::ZERO,
        checkpoint_every: rng.random_bool(open.open).then(|| Millis::from_secs(rng.random_range(10..1_800))),
        restart: Millis::from_secs(rng.random_range(0..120)),
    }
}

fn any_node(rng: &mut ChaCha8Rng, open: Openness, id: u64) -> NodeSupply {
    let states = [
        NodeState::Requested,
        NodeState::Booting,
        NodeState::Joining,
        NodeState::Ready,
        NodeState::Ready,
        NodeState::Ready,
        NodeState::Draining,
        NodeState::Unreachable,
        NodeState::Releasing,
    ];
    NodeSupply {
        size: size(rng.random_range(1..6)),
        market: any_market(rng),
        price: any_price(rng),
        rented_for: rng.random_bool(0.6).then(|| JobId::new(rng.random_range(1..9))),
        notice_until: rng.random_bool(0.1).then(|| NOW + Millis::from_secs(30)),
        answers: rng.random_bool(0.9),
        idle_since: rng.random_bool(0.7).then(|| Millis::new(NOW.get() - rng.random_range(0..30_000))),
        terms: NodeTerms {
            gpus: any_gpus(rng, 0.4),
            again: rng.random_bool(open.known).then(|| RentAgain {
                boot: Millis::from_secs(rng.random_range(1..300)),
                billing_min: Millis::from_secs(rng.random_range(0..60)),
            }),
            interruptions_per_1000_h: rng.random_range(0..open.interruptions),
        },
        ..node(id, *states.choose(rng).expect("some states"))
    }
}

fn any_offer(rng: &mut ChaCha8Rng, open: Openness, number: u32) -> Offer {
    Offer {
        name: format!("cloud/type{number}"),
        size: size(rng.random_range(1..6)),
        market: any_market(rng),
        price: any_price(rng),
        boot: Millis::from_secs(rng.random_range(0..300)),
        terms: OfferTerms {
            gpus: any_gpus(rng, 0.4),
            billing_min: Millis::from_secs(rng.random_range(0..60)),
            interruptions_per_1000_h: rng.random_range(0..open.interruptions),
            hold_until: rng.random_bool(0.1).then(|| NOW + Millis::from_secs(5)),
        },
        ..offer(rng.random_range(0..5))
    }
}

/// Puts workers of some jobs on nodes that have room for them, as an earlier round would have.
fn place(rng: &mut ChaCha8Rng, snapshot: &mut Snapshot) {
    let mut next = 0;
    for at in 0..snapshot.jobs.len() {
        if rng.random_bool(0.4) {
            continue;
        }
        let job = snapshot.jobs[at].clone();
        let wanted = rng.random_range(job.workers.min..=job.workers.max) + u32::from(job.separate_server);
        let mut placed = Vec::new();
        for node in snapshot.nodes.iter().filter(|node| matches!(node.state, NodeState::Ready | NodeState::Draining)) {
            let here = snapshot.jobs.iter().filter(|job| job.placed.iter().any(|placed| placed.node == node.id));
            let market = job.terms.either_market || node.market == job.market;
            if placed.len() < wanted as usize && market && reservation_room(node, here, &job) {
                next += 1;
                let role =
                    if job.separate_server && placed.is_empty() { PlacedRole::Server } else { PlacedRole::Trainer };
                placed.push(Placed { worker: WorkerId::new(next), node: node.id, role });
            }
        }
        let job = &mut snapshot.jobs[at];
        if placed.len() >= (job.workers.min + u32::from(job.separate_server)) as usize {
            job.placed = placed;
            job.started = true;
            job.stopping = rng.random_bool(0.1);
            job.terms.running_since = rng.random_bool(0.8).then(|| Millis::from_secs(60_000));
            job.terms.since_checkpoint = Millis::from_secs(rng.random_range(0..1_000));
        }
    }
    let busy: Vec<NodeId> = snapshot.jobs.iter().flat_map(|job| &job.placed).map(|placed| placed.node).collect();
    snapshot.nodes.iter_mut().filter(|node| busy.contains(&node.id)).for_each(|node| node.idle_since = None);
}

fn any_market(rng: &mut ChaCha8Rng) -> Market {
    if rng.random_bool(0.6) { Market::Spot } else { Market::OnDemand }
}

fn any_price(rng: &mut ChaCha8Rng) -> MicroUsdPerHour {
    MicroUsdPerHour::new(rng.random_range(1..8) * 6_000)
}

fn any_gpus(rng: &mut ChaCha8Rng, chance: f64) -> Gpus {
    if !rng.random_bool(chance) {
        return Gpus::default();
    }
    let model = rng.random_bool(0.5).then(|| (*["T4", "A100"].choose(rng).expect("two models")).to_owned());
    Gpus { count: GpuCount(rng.random_range(1..4)), model }
}

fn any_gpu_need(rng: &mut ChaCha8Rng) -> GpuNeed {
    let gpus = any_gpus(rng, 0.2);
    GpuNeed { count: gpus.count, models: gpus.model.into_iter().collect() }
}
