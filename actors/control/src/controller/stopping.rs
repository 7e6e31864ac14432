//! Ending a job that nobody asked to end: with a last checkpoint where there is somebody to write one.

use neap_runtime::wire::worker::WorkerCommand;
use neap_scheduler::model::{CancelReason, FailReason, JobId, JobState};

use super::Controller;
use super::api::STOP_WAIT;
use super::exhausted::exhausted_text;
use crate::clock;
use crate::handle::Stop;

impl Controller {
    /// Ends a job that must end; one that is ending already goes on doing so. Whether that is written down.
    pub(super) async fn stop_because(&mut self, job: JobId, reason: FailReason, why: String, stop: Stop) -> bool {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| !job.state.is_terminal()) else { return false };
        let server = entry.membership.as_ref().and_then(|group| group.lead());
        let running = server.filter(|server| stop == Stop::Save && self.live.workers.contains_key(server));
        let stopping = entry.state == JobState::Stopping;
        let (state, why) = match running {
            Some(_) => (JobState::Stopping, format!("{why}; saving its state")),
            None => (JobState::Failed(reason), why),
        };
        let record = self.job_record(job, state, why).filter(|_| !stopping);
        if !self.commit_event(record.into_iter().collect()).await {
            return false;
        }
        if let Some(server) = running.filter(|_| !stopping) {
            self.live.stop_until.insert(job, clock::now() + STOP_WAIT);
            self.tell_worker(job, server, WorkerCommand::Stop { save: true });
        }
        true
    }

    /// The state that a stopped job ends in, and why.
    pub(super) fn stopped_state(&self, job: JobId, on_request: &str) -> (JobState, String) {
        match self.live.money.exhausted.get(&job) {
            Some(refusal) => (JobState::Failed(FailReason::BudgetExceeded), exhausted_text(refusal)),
            None => self.late_state(job).unwrap_or((JobState::Cancelled(CancelReason::User), on_request.to_owned())),
        }
    }
}
