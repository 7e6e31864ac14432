//! What follows from a commit in every kind of exchange: its report, and what the state is wanted for after it.

use std::time::Instant;

use neap_runtime::wire::worker::WorkerReport;
use neap_scheduler::model::MembershipEpoch;

use super::collect::Purpose;
use super::due::Due;
use super::meter::Meter;
use super::{Keeper, ServerSetup};
use crate::state::Commit;

/// Reports a commit where a report is due. Returns what the state is wanted for now: the epoch that has ended, a checkpoint,
/// or both.
pub(crate) fn tell_of(
    commit: &Commit,
    membership: MembershipEpoch,
    meter: &mut Meter,
    due: &mut Due,
    setup: &ServerSetup,
    keeper: &Keeper,
) -> Option<Purpose> {
    if let Some(progress) = meter.note(commit, &setup.schedule, membership) {
        setup.outbox.report_latest(WorkerReport::Progress(progress));
    }
    let (now, epoch) = (Instant::now(), commit.epoch.map(|summary| summary.epoch));
    let save = due.is_due(&setup.job, commit.step, epoch, now, keeper.checkpoint_cost());
    if save {
        due.note_saved(now);
    }
    match commit.epoch {
        Some(summary) => Some(Purpose::Epoch { summary, save }),
        None => save.then_some(Purpose::Save),
    }
}
