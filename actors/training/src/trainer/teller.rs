//! What a worker's data cost it so far, told now and then.

use std::time::{Duration, Instant};

use neap_runtime::wire::worker::{DataUsed, WorkerReport};
use neap_scheduler::model::MembershipEpoch;

use crate::links::Outbox;
use crate::loader::{JobData, Totals};

/// How often it is told.
const DATA_USED_EVERY: Duration = Duration::from_millis(500);

/// Tells what the data cost.
#[derive(Default)]
pub(crate) struct DataTeller {
    told: Option<Instant>,
}

impl DataTeller {
    /// Tells it where that is due.
    pub(crate) fn tell(&mut self, data: &JobData, membership: MembershipEpoch, outbox: &Outbox) {
        if self.told.is_some_and(|told| told.elapsed() < DATA_USED_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let Totals { time, waited, local_bytes, remote_bytes, store_bytes } = data.usage().totals();
        outbox.report_latest(WorkerReport::DataUsed(DataUsed {
            membership,
            millis: time.as_millis() as u64,
            waited_millis: waited.as_millis() as u64,
            local_bytes,
            remote_bytes,
            store_bytes,
        }));
    }
}
