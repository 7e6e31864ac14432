//! When a waiting job is expected to start: the cluster is run on, with the same decisions, until it does.
//!
//! Jobs end by their estimates, nodes come after their usual boot, nothing breaks and nobody submits. Done three times:
//! with the low ends of all estimates, the likely values and the high ends. What depends on a job without an estimate,
//! or on a node whose boot time is not known, is unknown.

use std::collections::BTreeMap;

use super::starts;
use crate::model::{JobId, Millis, NodeId, NodeState};
use crate::policy::{JobDemand, PlacedRole, Policy, Snapshot, WorkLeft, applied, decide_with};

/// How many events are looked ahead. A forecast further than that would be worth nothing.
const EVENTS_MAX: usize = 200;

/// When a job is expected to start. What is `None` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpectedStart {
    /// If everything takes as little as it may.
    pub low: Option<Millis>,
    /// Most likely.
    pub likely: Option<Millis>,
    /// If everything takes as much as it may.
    pub high: Option<Millis>,
}

pub(super) fn expected_start(policy: &dyn Policy, snapshot: &Snapshot, id: JobId) -> ExpectedStart {
    let with = |pick: fn(&WorkLeft) -> Millis| Forecast::new(policy, snapshot, pick).start_of(id);
    let [low, likely, high] = [with(|work| work.low), with(|work| work.likely), with(|work| work.high)];
    // More work for one job can let another one start sooner; the range covers all three.
    let all = [low, likely, high];
    let known = all.iter().all(Option::is_some);
    let ends = known.then(|| (all.into_iter().flatten().min(), all.into_iter().flatten().max()));
    match ends {
        Some((low, high)) => ExpectedStart { low, likely, high },
        None => ExpectedStart { low: all.into_iter().flatten().min(), likely, high: None },
    }
}

struct Forecast<'a> {
    policy: &'a dyn Policy,
    state: Snapshot,
    /// When nodes on their way come.
    arrivals: BTreeMap<NodeId, Millis>,
}

impl<'a> Forecast<'a> {
    fn new(policy: &'a dyn Policy, snapshot: &Snapshot, pick: fn(&WorkLeft) -> Millis) -> Self {
        let mut state = snapshot.clone();
        for work in state.jobs.iter_mut().filter_map(|job| job.terms.work.as_mut()) {
            let amount = pick(work);
            *work = WorkLeft { serial_permille: work.serial_permille, ..WorkLeft::exactly(amount) };
        }
        Self { policy, state, arrivals: BTreeMap::new() }
    }

    fn start_of(mut self, id: JobId) -> Option<Millis> {
        for _ in 0..EVENTS_MAX {
            let plan = decide_with(self.policy, &self.state);
            if starts(&plan, id) {
                return Some(self.state.now);
            }
            self.state = applied(&self.state, &plan);
            self.state.nodes.retain(|node| node.state != NodeState::Releasing);
            let next = self.next_event()?;
            self.advance(next);
        }
        None
    }

    fn next_event(&mut self) -> Option<Millis> {
        let now = self.state.now;
        for node in self.state.nodes.iter().filter(|node| node.is_coming()) {
            if let Some(again) = node.terms.again {
                self.arrivals.entry(node.id).or_insert(now + again.boot);
            }
        }
        let coming = |id: &NodeId| self.state.nodes.iter().any(|node| node.id == *id && node.is_coming());
        let arrivals = self.arrivals.iter().filter(|(node, _)| coming(node)).map(|(_, at)| *at);
        let ends = self.state.jobs.iter().filter_map(|job| time_left(job).map(|left| now + left));
        let holds = self.state.jobs.iter().filter_map(|job| job.hold_until);
        let offers = self.state.offers.iter().filter_map(|offer| offer.terms.hold_until);
        let holds = holds.chain(offers).filter(|&until| until > now);
        arrivals.chain(ends).chain(holds).min().map(|next| next.max(now))
    }

    fn advance(&mut self, to: Millis) {
        let passed = to.since(self.state.now);
        self.state.now = to;
        for job in &mut self.state.jobs {
            let left = time_left(job);
            if let (Some(left), Some(work)) = (left, job.terms.work.as_mut()) {
                let done = u128::from(work.likely.get()) * u128::from(passed.get()) / u128::from(left.get().max(1));
                let rest = Millis::new(work.likely.get().saturating_sub(u64::try_from(done).unwrap_or(u64::MAX)));
                let rest = if passed >= left { Millis::ZERO } else { rest };
                *work = WorkLeft { serial_permille: work.serial_permille, ..WorkLeft::exactly(rest) };
            }
        }
        let over = |job: &JobDemand| time_left(job) == Some(Millis::ZERO);
        let freed: Vec<NodeId> = self
            .state
            .jobs
            .iter()
            .filter(|job| over(job))
            .flat_map(|job| &job.placed)
            .map(|placed| placed.node)
            .collect();
        self.state.jobs.retain(|job| !over(job));
        for node in &mut self.state.nodes {
            if self.arrivals.get(&node.id).is_some_and(|&at| at <= to) && node.is_coming() {
                node.state = NodeState::Ready;
                node.idle_since = Some(to);
            }
            if freed.contains(&node.id) {
                node.idle_since = Some(to);
            }
        }
    }
}

/// How long a running job still takes with the workers it has, where that is known.
fn time_left(job: &JobDemand) -> Option<Millis> {
    let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer).count();
    let trainers = u32::try_from(trainers).unwrap_or(u32::MAX);
    let work = job.terms.work.filter(|_| job.started && trainers > 0)?;
    Some(work.time_on(work.likely, trainers))
}
