//! A round written down: what a decision was made from and what it was, as one line of JSON that a journal can store.
//!
//! [`RoundRecord::replay`] decides again from the recorded inputs and compares, byte for byte. The types here are those of
//! the record and of nothing else, so that the core can change without breaking a journal; conversions are explicit, in
//! `inputs` (both ways) and `outputs` (one way: what is replayed is decided, never read back). In the record of a plan the actions are
//! fields and the reasons are the sentences that people saw.

mod compare;
mod inputs;
mod outputs;
mod recording;

pub use compare::{PlanDifference, PlanDifferences, compare_plans};
pub use inputs::SnapshotRecord;
pub use outputs::{ActionRecord, PlanRecord};
pub use recording::{Recording, RecordingError};

use serde::{Deserialize, Serialize};

use crate::policy::{Plan, Policy, Snapshot, UnknownPolicy, decide_with};

/// The version of the record's layout. It grows when a field changes its meaning; a new field has a default instead.
pub const ROUND_VERSION: u32 = 1;

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// The layout: [`ROUND_VERSION`].
    pub version: u32,
    /// The policy's name.
    pub policy: String,
    /// What the decision was made from.
    pub inputs: SnapshotRecord,
    /// The decision.
    pub plan: PlanRecord,
}

/// What came of deciding again.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// The decision as it is made now.
    pub plan: Plan,
    /// Whether it is, byte for byte, the recorded one.
    pub identical: bool,
}

/// A record that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Not a record of a round.
    #[error("not a record of a round")]
    Malformed(#[source] serde_json::Error),
    /// Of a layout that this version does not know.
    #[error("the record has layout {found}; this version knows up to {ROUND_VERSION}")]
    TooNew {
        /// The record's layout.
        found: u32,
    },
    /// Made by a policy that this version does not have.
    #[error(transparent)]
    UnknownPolicy(#[from] UnknownPolicy),
}

impl RoundRecord {
    /// The round that decided `plan` from `snapshot`.
    pub fn new(policy: &dyn Policy, snapshot: &Snapshot, plan: &Plan) -> Self {
        Self {
            version: ROUND_VERSION,
            policy: policy.name().to_owned(),
            inputs: SnapshotRecord::from(snapshot),
            plan: PlanRecord::new(snapshot, plan),
        }
    }

    /// One line of JSON.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a record has string keys and no floats, so it is always JSON")
    }

    /// Reads one line.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Malformed`] and [`ReplayError::TooNew`].
    pub fn parse(line: &str) -> Result<Self, ReplayError> {
        let record: Self = serde_json::from_str(line).map_err(ReplayError::Malformed)?;
        if record.version > ROUND_VERSION {
            return Err(ReplayError::TooNew { found: record.version });
        }
        Ok(record)
    }

    /// Decides again, under the recorded policy with its default settings.
    ///
    /// # Errors
    ///
    /// [`ReplayError::UnknownPolicy`].
    pub fn replay(&self) -> Result<Replayed, ReplayError> {
        let policy = <dyn Policy>::by_name(&self.policy)?;
        let snapshot = self.inputs.snapshot();
        let plan = decide_with(&*policy, &snapshot);
        let again = Self::new(&*policy, &snapshot, &plan);
        Ok(Replayed { identical: again.to_line() == self.to_line(), plan })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::POLICY_NAMES;
    use crate::policy::testing::any_state;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_recorded_round_decides_the_same_again(seed in any::<u64>()) {
            let snapshot = any_state(seed);
            for name in POLICY_NAMES {
                let policy = <dyn Policy>::by_name(name).unwrap();
                let plan = decide_with(&*policy, &snapshot);
                let line = RoundRecord::new(&*policy, &snapshot, &plan).to_line();
                let read = RoundRecord::parse(&line).unwrap();
                prop_assert_eq!(read.inputs.snapshot(), snapshot.clone());
                prop_assert_eq!(read.to_line(), line);
                let again = read.replay().unwrap();
                prop_assert!(again.identical);
                prop_assert_eq!(again.plan, plan);
            }
        }
    }

    #[test]
    fn a_changed_plan_is_noticed_and_a_newer_record_refused() {
        let policy = <dyn Policy>::by_name("fifo").unwrap();
        let snapshot = any_state(3);
        let mut record = RoundRecord::new(&*policy, &snapshot, &decide_with(&*policy, &snapshot));
        record.plan.kept.insert(crate::model::NodeId::new(99), "it was there".to_owned());
        assert!(!record.replay().unwrap().identical);
        record.policy = "lottery".to_owned();
        assert!(record.replay().unwrap_err().to_string().contains("backfill"));
        record.version = ROUND_VERSION + 1;
        assert!(matches!(RoundRecord::parse(&record.to_line()), Err(ReplayError::TooNew { found: 2 })));
        assert!(matches!(RoundRecord::parse("{}"), Err(ReplayError::Malformed(_))));
    }
}
