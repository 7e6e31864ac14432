//! The changes of one field that could start a job: what each means, and which values are worth trying.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{CpuMillis, JobId, Market, MemoryMib, MicroUsdPerHour, NodeId, NodeSize};
use crate::policy::{Action, JobDemand, MarketNow, PRIORITY_MAX, Plan, Snapshot};

/// One field changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is tried again before its back-off ends.
    TryNow,
    /// `workers.min` is this.
    WorkersMin(u32),
    /// `resources.cpus` is this.
    Cpus(CpuMillis),
    /// `resources.memory` is this.
    Memory(MemoryMib),
    /// `market` is this.
    Market(Market),
    /// `market` is `auto`.
    EitherMarket,
    /// `max_price` is this.
    MaxPrice(MicroUsdPerHour),
    /// `budget.max_cost_per_hour` is this.
    RateMax(MicroUsdPerHour),
    /// `priority` is this.
    Priority(u16),
    /// Another job has ended or is paused.
    Without(JobId),
}

impl Change {
    /// The snapshot with the job changed so.
    #[must_use]
    pub fn applied(&self, snapshot: &Snapshot, id: JobId) -> Snapshot {
        let mut changed = snapshot.clone();
        if let Self::Without(other) = self {
            changed.jobs.retain(|job| job.id != *other);
        }
        if let Some(job) = changed.jobs.iter_mut().find(|job| job.id == id) {
            self.apply(job);
        }
        changed
    }

    fn apply(&self, job: &mut JobDemand) {
        match self {
            Self::TryNow => job.hold_until = None,
            Self::WorkersMin(min) => job.workers.min = *min,
            Self::Cpus(cpus) => job.need.cpus = *cpus,
            Self::Memory(memory) => job.need.memory = *memory,
            Self::Market(market) => {
                job.market = *market;
                job.terms.either_market = false;
                job.terms.market_now = None;
            }
            Self::EitherMarket => job.terms.either_market = true,
            Self::MaxPrice(price) => job.max_price = Some(*price),
            Self::RateMax(rate) => job.terms.rate_max = Some(*rate),
            Self::Priority(priority) => job.terms.priority = *priority,
            Self::Without(_) => {}
        }
    }
}

/// In the words of job files.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TryNow => f.write_str("trying again now"),
            Self::WorkersMin(min) => write!(f, "workers.min: {min}"),
            Self::Cpus(cpus) => write!(f, "resources.cpus: {cpus}"),
            Self::Memory(memory) => write!(f, "resources.memory: {memory}"),
            Self::Market(market) => write!(f, "market: {market}"),
            Self::EitherMarket => f.write_str("market: auto"),
            Self::MaxPrice(price) => write!(f, "max_price of {price}"),
            Self::RateMax(rate) => write!(f, "budget.max_cost_per_hour of {rate}"),
            Self::Priority(priority) => write!(f, "priority: {priority}"),
            Self::Without(job) => write!(f, "{job} ended or paused"),
        }
    }
}

/// The values worth trying, a list for each field, the smallest change first. The fields are in the order of what a change
/// costs: patience, then what the job asks for, then money, then the place of others.
///
/// Sizes and prices are tried where something changes: at what is left on a node, now or after what the plan starts, and
/// at the prices of nodes.
pub(super) fn candidates(snapshot: &Snapshot, plan: &Plan, job: &JobDemand) -> Vec<Vec<Change>> {
    let rooms = rooms(snapshot, plan, job.id);
    let smaller =
        |values: BTreeSet<u64>, now: u64| values.into_iter().rev().filter(move |&value| 0 < value && value < now);
    let cpus = smaller(rooms.iter().map(|room| u64::from(room.cpus.0)).collect(), u64::from(job.need.cpus.0));
    let memory = smaller(rooms.iter().map(|room| room.memory.0).collect(), job.need.memory.0);
    let hold = job.hold_until.filter(|&until| until > snapshot.now);
    vec![
        hold.map(|_| Change::TryNow).into_iter().collect(),
        (1..job.workers.min).rev().map(Change::WorkersMin).collect(),
        cpus.filter_map(|cpus| u32::try_from(cpus).ok()).map(|cpus| Change::Cpus(CpuMillis(cpus))).collect(),
        memory.map(|memory| Change::Memory(MemoryMib(memory))).collect(),
        markets(job),
        max_prices(snapshot, job),
        job.terms.rate_max.map(|_| Change::RateMax(everything(snapshot))).into_iter().collect(),
        priorities(snapshot, job),
    ]
}

/// What is left on nodes that take work, before and after the plan's starts of other jobs.
fn rooms(snapshot: &Snapshot, plan: &Plan, id: JobId) -> Vec<NodeSize> {
    let needs: BTreeMap<JobId, NodeSize> = snapshot.jobs.iter().map(|job| (job.id, job.need)).collect();
    let nodes = snapshot.nodes.iter().filter(|node| node.takes_work());
    let mut left: BTreeMap<NodeId, NodeSize> = nodes.map(|node| (node.id, node.size)).collect();
    let mut rooms: Vec<NodeSize> = Vec::new();
    for job in &snapshot.jobs {
        for placed in job.all_placed() {
            left.entry(placed.node).and_modify(|left| *left = left.minus(job.need));
        }
    }
    rooms.extend(left.values());
    for action in &plan.actions {
        if let Action::Start { job, node, .. } = action
            && *job != id
        {
            let need = needs.get(job).copied();
            left.entry(*node).and_modify(|left| *left = need.map_or(*left, |need| left.minus(need)));
        }
    }
    rooms.extend(left.values());
    rooms
}

fn markets(job: &JobDemand) -> Vec<Change> {
    match job.terms.market_now {
        Some(MarketNow::Only(market)) => return vec![Change::Market(other_than(market))],
        Some(MarketNow::Wait { .. }) => return vec![Change::Market(Market::OnDemand), Change::Market(Market::Spot)],
        None if job.terms.either_market => return Vec::new(),
        None => {}
    }
    vec![Change::EitherMarket, Change::Market(other_than(job.market))]
}

fn other_than(market: Market) -> Market {
    if market == Market::Spot { Market::OnDemand } else { Market::Spot }
}

fn max_prices(snapshot: &Snapshot, job: &JobDemand) -> Vec<Change> {
    let Some(most) = job.max_price else { return Vec::new() };
    let prices: BTreeSet<MicroUsdPerHour> = snapshot.nodes.iter().map(|node| node.price).collect();
    prices.into_iter().filter(|&price| price > most).map(Change::MaxPrice).collect()
}

/// A rate that pays for every node there is.
fn everything(snapshot: &Snapshot) -> MicroUsdPerHour {
    MicroUsdPerHour::new(snapshot.nodes.iter().fold(0, |sum: u64, node| sum.saturating_add(node.price.get())))
}

fn priorities(snapshot: &Snapshot, job: &JobDemand) -> Vec<Change> {
    let mine = job.terms.priority;
    let others = snapshot.jobs.iter().map(|other| other.terms.priority);
    let values: BTreeSet<u16> = others.flat_map(|priority| [priority, priority.saturating_add(1)]).collect();
    values.into_iter().filter(|&value| mine < value && value <= PRIORITY_MAX).map(Change::Priority).collect()
}
