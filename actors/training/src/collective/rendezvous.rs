//! How the workers of a membership agree on the training state to go on from, when some were interrupted in the middle of a
//! step and some are new.
//!
//! Everybody tells everybody where it stands, and decides for itself by the same rule: whoever has come furthest gives its
//! state to those that have another one. No step is lost, because a step that anybody has committed is kept; none is done
//! twice, because those behind take its result. Only where nobody has a state does the lead begin, from the newest
//! checkpoint or from the job's seed; so it does where a checkpoint is newer than what is left of the workers.

use std::collections::{BTreeMap, BTreeSet};

use neap_runtime::wire::collective::StateMark;
use neap_scheduler::model::WorkerId;

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The state it has, if any.
    pub(crate) state: Option<StateMark>,
    /// The step of the newest checkpoint it was told of.
    pub(crate) checkpoint_step: Option<u64>,
}

/// Where the state comes from, and who has to be given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Who has it.
    pub(crate) source: Source,
    /// Who has another one, or none.
    pub(crate) receivers: BTreeSet<WorkerId>,
}

/// Who has the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// This worker, in memory.
    Member(WorkerId),
    /// The lead, once it has read the newest checkpoint or made the initial parameters.
    Lead(WorkerId),
}

impl Source {
    /// The worker.
    pub(crate) fn worker(self) -> WorkerId {
        match self {
            Self::Member(worker) | Self::Lead(worker) => worker,
        }
    }
}

/// The workers of a membership finding each other.
#[derive(Debug, Clone)]
pub(crate) struct Rendezvous {
    lead: WorkerId,
    missing: BTreeSet<WorkerId>,
    here: BTreeMap<WorkerId, Standing>,
}

impl Rendezvous {
    /// Nobody is here yet.
    pub(crate) fn new(lead: WorkerId, workers: impl Iterator<Item = WorkerId>) -> Self {
        Self { lead, missing: workers.collect(), here: BTreeMap::new() }
    }

    /// Notes where a worker stands. Gives the agreement once, when the last one is here.
    pub(crate) fn note(&mut self, worker: WorkerId, standing: Standing) -> Option<Agreement> {
        if !self.missing.remove(&worker) {
            return None;
        }
        self.here.insert(worker, standing);
        self.missing.is_empty().then(|| self.agree())
    }

    fn agree(&self) -> Agreement {
        let newest = self.here.values().filter_map(|standing| standing.state).max();
        // The lead's word alone: others may have been told of the membership a moment earlier.
        let saved = self.here.get(&self.lead).and_then(|standing| standing.checkpoint_step);
        let newest = newest.filter(|mark| saved.is_none_or(|saved| saved <= mark.step));
        let has_newest = |worker: &WorkerId| newest.is_some() && self.here[worker].state == newest;
        let lead = Some(self.lead).filter(has_newest);
        let source = match lead.or_else(|| self.here.keys().copied().find(has_newest)) {
            Some(worker) => Source::Member(worker),
            None => Source::Lead(self.lead),
        };
        let has_it = |worker: &WorkerId| match source {
            Source::Member(_) => has_newest(worker),
            Source::Lead(lead) => *worker == lead,
        };
        Agreement { source, receivers: self.here.keys().copied().filter(|worker| !has_it(worker)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::model::MembershipEpoch;
    use proptest::prelude::*;

    use super::*;

    const LEAD: u64 = 2;

    fn mark(step: u64, membership: u64) -> Option<StateMark> {
        Some(StateMark { step, membership: MembershipEpoch(membership) })
    }

    /// Workers 1, 2, … with these states; `checkpoint` is what the lead was told of.
    fn agree(states: &[Option<StateMark>], checkpoint: Option<u64>) -> (Source, Vec<u64>) {
        let worker = |at: usize| WorkerId::new(at as u64 + 1);
        let mut rendezvous = Rendezvous::new(WorkerId::new(LEAD), (0..states.len()).map(worker));
        let mut agreed = None;
        for (at, &state) in states.iter().enumerate() {
            assert_eq!(agreed, None);
            let checkpoint_step = checkpoint.filter(|_| worker(at) == WorkerId::new(LEAD));
            agreed = rendezvous.note(worker(at), Standing { state, checkpoint_step });
        }
        let Agreement { source, receivers } = agreed.unwrap();
        (source, receivers.into_iter().map(WorkerId::number).collect())
    }

    fn member(number: u64) -> Source {
        Source::Member(WorkerId::new(number))
    }

    const FROM_LEAD: Source = Source::Lead(WorkerId::new(LEAD));

    #[test]
    fn whoever_is_ahead_gives_its_state_to_the_others() {
        assert_eq!(agree(&[mark(7, 1), mark(7, 1), mark(7, 1)], Some(5)), (member(LEAD), vec![]));
        assert_eq!(agree(&[mark(8, 1), mark(7, 1), None], Some(5)), (member(1), vec![2, 3]));
        assert_eq!(agree(&[None, mark(8, 1), mark(8, 1)], None), (member(LEAD), vec![1]));
        assert_eq!(agree(&[None, None, mark(0, 1)], None), (member(3), vec![1, 2]));
    }

    #[test]
    fn the_same_step_of_another_membership_is_another_state() {
        assert_eq!(agree(&[mark(8, 1), mark(8, 2), mark(8, 1)], None), (member(LEAD), vec![1, 3]));
    }

    #[test]
    fn without_any_state_the_lead_begins() {
        assert_eq!(agree(&[None, None, None], None), (FROM_LEAD, vec![1, 3]));
        assert_eq!(agree(&[None, None], Some(40)), (FROM_LEAD, vec![1]));
    }

    #[test]
    fn a_checkpoint_counts_where_it_is_newer_than_what_the_workers_have() {
        assert_eq!(agree(&[mark(8, 1), None], Some(8)), (member(1), vec![2]));
        assert_eq!(agree(&[mark(8, 1), None], Some(9)), (FROM_LEAD, vec![1]));
    }

    proptest! {
        #[test]
        fn everybody_agrees_whatever_the_order_and_nobody_falls_behind(
            states in prop::collection::vec(prop::option::of((0u64..4, 0u64..3)), 2..7),
            checkpoint in prop::option::of(0u64..5),
            order in any::<prop::sample::Index>(),
        ) {
            let worker = |at: usize| WorkerId::new(at as u64 + 1);
            let standing = |at: usize| Standing {
                state: states[at].and_then(|(step, membership)| mark(step, membership)),
                checkpoint_step: checkpoint,
            };
            let agree = |turn: usize| {
                let mut rendezvous = Rendezvous::new(WorkerId::new(LEAD), (0..states.len()).map(worker));
                let mut order: Vec<usize> = (0..states.len()).collect();
                order.rotate_left(turn);
                let agreed: Vec<_> = order.iter().filter_map(|&at| rendezvous.note(worker(at), standing(at))).collect();
                // Said twice, it changes nothing.
                assert!(order.iter().all(|&at| rendezvous.note(worker(at), standing(at)).is_none()));
                agreed
            };
            let agreed = agree(0);
            prop_assert_eq!(&agreed, &agree(order.index(states.len())));
            let [Agreement { source, receivers }] = &agreed[..] else { panic!("agreed once") };
            prop_assert!(!receivers.contains(&source.worker()));
            let newest = states.iter().flatten().map(|(step, _)| *step).max();
            match source {
                Source::Member(worker) => {
                    let own = states[worker.number() as usize - 1].unwrap();
                    prop_assert_eq!(Some(own.0), newest);
                    prop_assert!(checkpoint.is_none_or(|saved| saved <= own.0));
                    let same = |at: &usize| states[*at] == Some(own);
                    prop_assert_eq!((0..states.len()).filter(same).count() + receivers.len(), states.len());
                }
                Source::Lead(_) => prop_assert!(newest.is_none() || checkpoint > newest),
            }
        }
    }
}
