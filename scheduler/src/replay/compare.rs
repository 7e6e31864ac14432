//! What another policy would have planned in each recorded round.
//!
//! Each round is decided from what was recorded of it, so a difference does not carry over into the next one: it says
//! where policies disagree on the history as it was, not what history would have become. (For that, simulate the jobs:
//! [`crate::sim::cluster::recorded_world`].)

use super::{ActionRecord, PlanRecord, Recording};
use crate::model::Millis;
use crate::policy::{Policy, decide_with};

/// How a policy's plans differ from the recorded ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanDifferences {
    /// Rounds in which it would have done something else.
    pub differing: u64,
    /// The first of them.
    pub first: Option<PlanDifference>,
}

/// One round in which a policy would have done something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanDifference {
    /// The line of the recording, from 1.
    pub line: u64,
    /// When.
    pub at: Millis,
    /// What was done and would not have been.
    pub only_recorded: Vec<String>,
    /// What would have been done and was not.
    pub only_planned: Vec<String>,
}

/// Decides every round of a recording again under a policy. Reasons are not compared, only what is done.
pub fn compare_plans(recording: &Recording, policy: &dyn Policy) -> PlanDifferences {
    let mut differences = PlanDifferences { differing: 0, first: None };
    for (line, round) in &recording.rounds {
        let snapshot = round.inputs.snapshot();
        let planned = effects(&PlanRecord::new(&snapshot, &decide_with(policy, &snapshot)));
        let recorded = effects(&round.plan);
        if planned == recorded {
            continue;
        }
        differences.differing += 1;
        let without = |some: &[String], others: &[String]| {
            some.iter().filter(|one| !others.contains(one)).cloned().collect::<Vec<_>>()
        };
        differences.first.get_or_insert_with(|| PlanDifference {
            line: *line,
            at: snapshot.now,
            only_recorded: without(&recorded, &planned),
            only_planned: without(&planned, &recorded),
        });
    }
    differences
}

/// What a plan does, whatever the order.
fn effects(plan: &PlanRecord) -> Vec<String> {
    let mut effects: Vec<String> = plan.actions.iter().map(effect).collect();
    effects.sort_unstable();
    effects
}

fn effect(action: &ActionRecord) -> String {
    match action {
        ActionRecord::Acquire { job, offer, .. } => format!("rent {offer} for {job}"),
        ActionRecord::Start { job, node, server: false, .. } => format!("start a worker of {job} on {node}"),
        ActionRecord::Start { job, node, server: true, .. } => format!("start the parameter server of {job} on {node}"),
        ActionRecord::Retire { job, worker, .. } => format!("end {worker} of {job}"),
        ActionRecord::Release { node, .. } => format!("give {node} back"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::any_state;
    use crate::policy::{Fifo, POLICY_NAMES, decide};
    use crate::replay::RoundRecord;

    #[test]
    fn a_policy_agrees_with_its_own_recording_and_another_differs_somewhere() {
        let record = |seed| {
            let snapshot = any_state(seed);
            (seed + 1, RoundRecord::new(&Fifo, &snapshot, &decide(&snapshot)))
        };
        let recording = Recording { rounds: (0..200).map(record).collect(), torn: None };
        assert_eq!(compare_plans(&recording, &Fifo), PlanDifferences { differing: 0, first: None });
        let priority = <dyn Policy>::by_name(POLICY_NAMES[3]).unwrap();
        let differences = compare_plans(&recording, &*priority);
        let first = differences.first.unwrap();
        let earlier = Recording { rounds: recording.rounds[..first.line as usize - 1].to_vec(), torn: None };
        assert_eq!(compare_plans(&earlier, &*priority).differing, 0);
        assert!(first.only_recorded != first.only_planned && differences.differing > 1, "{first:?}");
    }
}
