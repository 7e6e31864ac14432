//! 5,000 idle nodes and 50,000 waiting one-worker tasks of mixed sizes, all of which fit: the size at which Kubernetes
//! measures its scheduler (`scheduler_perf`).

use neap_scheduler::model::{
    CpuMillis, Generation, JobId, Market, MemoryMib, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState,
};
use neap_scheduler::policy::{Accounts, JobDemand, JobTerms, NodeSupply, NodeTerms, Snapshot};
use neap_scheduler::spec::WorkerRange;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const NODES: u64 = 5_000;
pub(crate) const TASKS: u64 = 50_000;

/// Idle nodes of 16 to 96 cores, and waiting tasks of 0.25 to 6 cores that fill them to about 80 %. Always the same.
pub(crate) fn cluster() -> Snapshot {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let nodes = (1..=NODES).map(|id| {
        let cores = [16, 32, 64, 96][rng.random_range(0..4)];
        node(id, NodeSize { cpus: CpuMillis::from_cores(cores), memory: MemoryMib(u64::from(cores) * 4_096) })
    });
    let nodes = nodes.collect();
    let jobs = (1..=TASKS).map(|id| {
        let cpus = CpuMillis(rng.random_range(1..=24) * 250);
        task(id, NodeSize { cpus, memory: MemoryMib(rng.random_range(1..=4) * u64::from(cpus.0)) })
    });
    Snapshot {
        now: Millis::from_secs(1_000),
        generation: Generation(1),
        jobs: jobs.collect(),
        nodes,
        offers: Vec::new(),
        idle_release: Millis::from_secs(600),
        accounts: Accounts::default(),
    }
}

fn node(id: u64, size: NodeSize) -> NodeSupply {
    NodeSupply {
        id: NodeId::new(id),
        size,
        market: Market::OnDemand,
        price: MicroUsdPerHour::new(1_000_000),
        state: NodeState::Ready,
        rented_for: None,
        notice_until: None,
        answers: true,
        idle_since: Some(Millis::from_secs(900)),
        terms: NodeTerms::default(),
    }
}

/// A job of one worker that waits.
pub(crate) fn task(id: u64, need: NodeSize) -> JobDemand {
    JobDemand {
        id: JobId::new(id),
        submitted: Millis::new(id),
        workers: WorkerRange { min: 1, target: 1, max: 1 },
        need,
        market: Market::OnDemand,
        max_price: None,
        separate_server: false,
        given_up: 0,
        started: false,
        stopping: false,
        hold_until: None,
        placed: Vec::new(),
        leaving: Vec::new(),
        terms: JobTerms::default(),
    }
}
