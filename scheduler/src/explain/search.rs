//! The smallest change that starts a job now, found by deciding again.

use std::fmt;

use super::change::{Change, candidates};
use super::starts;
use crate::model::MicroUsdPerHour;
use crate::policy::{JobDemand, Plan, Policy, Snapshot, decide_with};

/// How many other jobs are tried away. Beyond the first so many in the order of service nobody would look for the culprit;
/// each costs a decision.
pub const OTHERS_MAX: usize = 64;

/// Up to this many values of a field are tried one by one, which finds the smallest even where a policy is not monotone;
/// more are searched by halving.
const ONE_BY_ONE_MAX: usize = 32;

/// What would start a job now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This change alone: the first that does, in the order of what changes cost.
    One(Change),
    /// No single change. These together would, and none of them can be left out: they are the causes.
    Together(Vec<Change>),
    /// Not even all changes together: no node that takes work is free for it now.
    Nothing,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(change) => write!(f, "{change} would start it now"),
            Self::Together(changes) => {
                let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                write!(f, "no single change would start it now; together these would: {}", changes.join(", "))
            }
            Self::Nothing => f.write_str("no change would start it now: it has to wait for nodes to come"),
        }
    }
}

struct Search<'a> {
    policy: &'a dyn Policy,
    snapshot: &'a Snapshot,
    job: &'a JobDemand,
}

/// The smallest change that starts the job now.
pub(super) fn smallest_change(policy: &dyn Policy, snapshot: &Snapshot, plan: &Plan, job: &JobDemand) -> Answer {
    let search = Search { policy, snapshot, job };
    let fields = all_candidates(policy, snapshot, plan, job);
    for field in &fields {
        if let Some(change) = search.smallest(field) {
            return Answer::One(change);
        }
    }
    search.together(&fields)
}

/// Every change that is tried, a list for each field; other jobs last, waiting ones before those that lose work.
pub(super) fn all_candidates(
    policy: &dyn Policy,
    snapshot: &Snapshot,
    plan: &Plan,
    job: &JobDemand,
) -> Vec<Vec<Change>> {
    let mut fields = candidates(snapshot, plan, job);
    let order = policy.order(snapshot);
    let mut others: Vec<&JobDemand> = order.into_iter().filter(|other| other.id != job.id).take(OTHERS_MAX).collect();
    others.sort_by_key(|other| other.placed.len());
    fields.extend(others.into_iter().map(|other| vec![Change::Without(other.id)]));
    fields
}

impl Search<'_> {
    fn works(&self, changes: &[Change]) -> bool {
        let changed = changes.iter().fold(self.snapshot.clone(), |state, change| change.applied(&state, self.job.id));
        starts(&decide_with(self.policy, &changed), self.job.id)
    }

    fn one_works(&self, change: &Change) -> bool {
        self.works(std::slice::from_ref(change))
    }

    /// The first of the values, from the smallest change to the largest, that starts the job.
    fn smallest(&self, values: &[Change]) -> Option<Change> {
        if let [Change::RateMax(most)] = values {
            return self.smallest_rate(*most);
        }
        if values.len() <= ONE_BY_ONE_MAX {
            return values.iter().find(|change| self.one_works(change)).cloned();
        }
        let first = values.partition_point(|change| !self.one_works(change));
        values.get(first).filter(|change| self.one_works(change)).cloned()
    }

    /// The smallest rate, to a thousandth of `most`, that starts the job: more money never buys less.
    fn smallest_rate(&self, most: MicroUsdPerHour) -> Option<Change> {
        let works = |rate: u64| self.one_works(&Change::RateMax(MicroUsdPerHour::new(rate)));
        let (mut too_little, mut enough) = (self.job.terms.rate_max?.get(), most.get());
        if enough <= too_little || !works(enough) {
            return None;
        }
        while enough - too_little > (most.get() / 1_000).max(1) {
            let middle = too_little + (enough - too_little) / 2;
            if works(middle) {
                enough = middle;
            } else {
                too_little = middle;
            }
        }
        Some(Change::RateMax(MicroUsdPerHour::new(enough)))
    }

    /// The largest change of every field together, without those that can be left out.
    fn together(&self, fields: &[Vec<Change>]) -> Answer {
        let mut changes: Vec<Change> = fields.iter().filter_map(|field| field.last().cloned()).collect();
        if let Some(at) = changes.iter().position(|change| matches!(change, Change::Market(_))) {
            changes[at] = Change::EitherMarket;
        }
        if !self.works(&changes) {
            return Answer::Nothing;
        }
        // Those that cost most first: they are the ones to do without.
        for at in (0..changes.len()).rev() {
            let without: Vec<Change> = changes
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
                .map(|(_, change)| change.clone())
                .collect();
            if self.works(&without) {
                changes = without;
            }
        }
        Answer::Together(changes)
    }
}
