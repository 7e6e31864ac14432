//! What is shown about money to come, money that was spent, and what money can buy.

use std::collections::BTreeMap;

use neap_scheduler::model::{JobId, MicroUsd, Millis, Offer};
use neap_scheduler::pricing::attribution::{AttributedLine, Loss};
use neap_scheduler::pricing::breakdown::Part;
use neap_scheduler::pricing::budget::{LimitKind, Scope};
use neap_scheduler::pricing::forecast::{Basis, Range};

/// What is expected to be spent.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastView {
    /// Now.
    pub from: Millis,
    /// Until when.
    pub until: Millis,
    /// What the forecast rests on.
    pub basis: Basis,
    /// How long ago the first money was spent.
    pub history: Millis,
    /// Nodes that run, and of them those whose end nobody knows: they count until the end of the forecast.
    pub running: (usize, usize),
    /// Jobs that wait and have an estimate.
    pub queued: usize,
    /// Jobs that wait and have none: they are not in the forecast.
    pub unknown: Vec<JobId>,
    /// Everything, and then each limit in total or a month that is set.
    pub scopes: Vec<ScopeForecast>,
}

/// What one scope is expected to spend, and what that means for one of its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeForecast {
    /// Whose.
    pub scope: Scope,
    /// Which limit; `None` for the organisation as a whole.
    pub kind: Option<LimitKind>,
    /// Until when: of a month's limit no further than the month.
    pub until: Millis,
    /// What will be spent.
    pub spend: Range<MicroUsd>,
    /// What is left of the limit now.
    pub left: Option<MicroUsd>,
    /// The chance that more will be spent than that.
    pub overspend_chance: Option<f64>,
    /// When the limit is reached; a point is `None` where that is not in sight.
    pub exhausted: Option<Range<Option<Millis>>>,
}

/// The part of the bill that is not written down yet, and what is needed to read a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBill {
    /// When.
    pub now: Millis,
    /// The lines of the stretches that are running.
    pub lines: Vec<AttributedLine>,
    /// Work that was thrown away.
    pub losses: Vec<Loss>,
    /// The name and the project of every job.
    pub jobs: BTreeMap<JobId, (String, String)>,
}

/// What a bill is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillKey {
    /// Whom the job belongs to.
    Project,
    /// The job.
    Job,
    /// The job's actor.
    Actor,
    /// The node.
    Node,
    /// What the time was spent on.
    Category,
}

/// One part of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillPart {
    /// The beginning of its hour or day, where time is cut.
    pub begins: Option<Millis>,
    /// What it was spent on: a project, job, actor, node or category; `None` where there is none.
    pub key: Option<String>,
    /// A name for it, where the key is an id.
    pub name: Option<String>,
    /// How much, and for how much node time.
    pub part: Part,
}

/// Something that could be rented now, and how it fared so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferView {
    /// The offer.
    pub offer: Offer,
    /// How often its nodes were taken back.
    pub interruptions: u64,
    /// For how long they were rented in all.
    pub observed: Millis,
}
