//! What tests of decisions are made from: small parts by hand, and [`states`]: random valid states of a cluster.

mod states;

use proptest::test_runner::Config;

pub(crate) use states::{any_state, waiting_jobs};

use super::{JobDemand, JobTerms, NodeSupply, NodeTerms, Snapshot};
use crate::model::{
    CpuMillis, Generation, JobId, Market, MemoryMib, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState, Offer,
    OfferTerms,
};
use crate::spec::WorkerRange;

/// So many random cases, other ones in each run; `PROPTEST_CASES` asks for another number. A case that fails is printed,
/// and becomes a named test: nothing is written beside the sources.
pub(crate) fn cases(number: u32) -> Config {
    Config { cases: number, failure_persistence: None, ..Config::default() }
}

pub(crate) fn size(cpus: u32) -> NodeSize {
    NodeSize { cpus: CpuMillis::from_cores(cpus), memory: MemoryMib(1_024 * u64::from(cpus)) }
}

pub(crate) fn job(id: u64, min: u32, target: u32) -> JobDemand {
    JobDemand {
        id: JobId::new(id),
        submitted: Millis::new(id),
        workers: WorkerRange { min, target, max: target },
        need: size(1),
        market: Market::Spot,
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

pub(crate) fn node(id: u64, state: NodeState) -> NodeSupply {
    NodeSupply {
        id: NodeId::new(id),
        size: size(1),
        market: Market::Spot,
        price: MicroUsdPerHour::new(12_000),
        state,
        rented_for: Some(JobId::new(1)),
        notice_until: None,
        answers: true,
        idle_since: Some(Millis::new(1_000)),
        terms: NodeTerms::default(),
    }
}

pub(crate) fn offer(available: u32) -> Offer {
    Offer {
        name: "local/small/spot".to_owned(),
        size: size(1),
        market: Market::Spot,
        price: MicroUsdPerHour::new(12_000),
        boot: Millis::ZERO,
        available,
        terms: OfferTerms::default(),
    }
}

pub(crate) fn cluster(jobs: Vec<JobDemand>, nodes: Vec<NodeSupply>, available: u32) -> Snapshot {
    Snapshot {
        now: Millis::new(2_000),
        generation: Generation(1),
        jobs,
        nodes,
        offers: vec![offer(available)],
        idle_release: Millis::from_secs(15),
        accounts: super::Accounts::default(),
    }
}
