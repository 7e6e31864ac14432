//! One node, as the journal tells it.

use neap_scheduler::model::{JobId, Market, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState};
use neap_scheduler::pricing::{Category, LedgerLine, NodeMeter, Use};

use super::job::History;

/// What a node starts with.
pub(crate) struct NodeStart {
    pub(crate) id: NodeId,
    pub(crate) offer: String,
    pub(crate) size: NodeSize,
    pub(crate) market: Market,
    pub(crate) price: MicroUsdPerHour,
    pub(crate) rented_for: Option<JobId>,
    pub(crate) requested: Millis,
}

/// One node.
#[derive(Debug)]
pub(crate) struct NodeEntry {
    pub(crate) id: NodeId,
    pub(crate) offer: String,
    pub(crate) size: NodeSize,
    pub(crate) market: Market,
    pub(crate) price: MicroUsdPerHour,
    /// The job it was rented for, or the last one that ran here: it pays for boot, idle and drain.
    pub(crate) rented_for: Option<JobId>,
    pub(crate) state: NodeState,
    pub(crate) why: String,
    pub(crate) requested: Millis,
    pub(crate) ended: Option<Millis>,
    pub(crate) notice_until: Option<Millis>,
    /// Runs from the moment the provider starts the node.
    pub(crate) meter: Option<NodeMeter>,
    pub(crate) history: History,
}

impl NodeEntry {
    pub(super) fn new(start: NodeStart) -> Self {
        let NodeStart { id, offer, size, market, price, rented_for, requested } = start;
        let mut history = History::default();
        history.push(requested, format!("requested from {offer} at {price}"));
        Self {
            id,
            offer,
            size,
            market,
            price,
            rented_for,
            state: NodeState::Requested,
            why: "requested".to_owned(),
            requested,
            ended: None,
            notice_until: None,
            meter: None,
            history,
        }
    }

    pub(super) fn enter(&mut self, state: NodeState, at: Millis, why: &str) {
        self.history.push(at, format!("{} → {state}: {why}", self.state));
        if state == NodeState::Booting && self.meter.is_none() {
            self.meter = Some(NodeMeter::start(self.id, self.price, at));
        }
        self.state = state;
        self.why = why.to_owned();
        if state.is_terminal() {
            self.ended = Some(at);
        }
    }

    pub(super) fn notice(&mut self, at: Millis, deadline: Millis) {
        self.history.push(at, format!("preemption notice: taken back in {}", deadline.since(at)));
        self.notice_until = Some(deadline);
    }

    pub(super) fn book(&mut self, line: &LedgerLine) {
        let Some(meter) = &mut self.meter else { return };
        let whole = Use { category: line.category, job: line.job, weight: 1 };
        // The lines of one stretch come one by one; the meter moves with the first.
        let _ = meter.bill(line.to, &[whole]);
    }

    /// What it cost up to `now`.
    pub(crate) fn cost(&self, now: Millis) -> MicroUsd {
        match (&self.meter, self.state.is_terminal()) {
            (None, _) => MicroUsd::ZERO,
            (Some(meter), true) => meter.billed(),
            (Some(meter), false) => meter.billed() + self.open_cost(meter, now),
        }
    }

    fn open_cost(&self, meter: &NodeMeter, now: Millis) -> MicroUsd {
        let whole = Use { category: Category::Idle, job: None, weight: 1 };
        meter.preview(now, &[whole]).iter().map(|line| line.amount).sum()
    }

    /// Time billed up to `now`.
    pub(crate) fn time(&self, now: Millis) -> Millis {
        let Some(meter) = &self.meter else { return Millis::ZERO };
        let until = if self.state.is_terminal() { meter.billed_until() } else { now };
        until.since(meter.started())
    }

    /// What its time is spent on, where its state alone says so.
    pub(super) fn category_by_state(&self) -> Option<Category> {
        match self.state {
            NodeState::Requested | NodeState::Booting | NodeState::Joining => Some(Category::Boot),
            NodeState::Draining | NodeState::Releasing => Some(Category::Drain),
            NodeState::Ready | NodeState::Unreachable => None,
            NodeState::Released | NodeState::Failed => Some(Category::Drain),
        }
    }
}
