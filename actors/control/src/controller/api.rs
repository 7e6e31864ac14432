//! What callers of the API ask and command.

use neap_runtime::wire::worker::WorkerCommand;
use neap_scheduler::model::{
    CancelReason, JobId, JobState, Market, MarketChoice, MicroUsd, Millis, NodeId, NodeState, Offer,
};
use neap_scheduler::policy::{JobDemand, JobTerms, cheapest_fit};
use neap_scheduler::spec::{Code, JobSpec};
use neap_storage::record::{EstimateRecord, Record};

use super::live::EndingAll;
use super::{Changed, Controller, Reply};
use crate::clock;
use crate::handle::{ControlError, JobFile, Stop, Submission, Which};
use crate::home::random_hex;
use crate::views::{BillView, Explanation, JobView, NodeView, StatusView};

/// How long a stopping job may take for its last checkpoint.
pub(super) const STOP_WAIT: Millis = Millis::from_secs(10);

/// How long `neap down` waits for checkpoints.
const DOWN_WAIT: Millis = Millis::from_secs(5);

/// Jobs that have not ended, at most; one more is refused.
const LIVE_JOBS_MAX: usize = 1_000;

impl Controller {
    pub(super) async fn submit(&mut self, job: Submission, reply: Reply<JobView>) -> Changed {
        let answer = self.accept(job).await;
        let changed = if answer.is_ok() { Changed::Yes } else { Changed::No };
        let _ = reply.send(answer);
        changed
    }

    async fn accept(&mut self, submission: Submission) -> Result<JobView, ControlError> {
        let Submission { spec, source, base_dir, estimate, force, artifact, init_digest, begin_with } = submission;
        let job = self.state.next_job();
        let name = spec.name.clone().unwrap_or_else(|| format!("train-{}", &random_hex().unwrap_or_default()[..6]));
        if let Some(other) = self.state.live_jobs().find(|other| other.name == name) {
            let why = format!(
                "{} is already called {name} and has not ended; wait for it, stop it, or choose another name",
                other.id
            );
            return Err(ControlError::Conflict { why });
        }
        if self.state.live_jobs().count() >= LIVE_JOBS_MAX {
            let why = format!("{LIVE_JOBS_MAX} jobs have not ended; wait for some or stop some");
            return Err(ControlError::Conflict { why });
        }
        self.check_feasible(&spec)?;
        self.check_shared_budgets(&spec)?;
        let forecast = estimate.filter(|_| !force);
        check_forecast(&spec, forecast)?;
        check_deadline(&spec, forecast, clock::now())?;
        let record = Record::JobSubmitted {
            job,
            name,
            project: spec.project.clone(),
            submitted_at: clock::now(),
            source,
            base_dir,
            spec_hash: spec_hash(&spec, init_digest.as_deref()),
            estimate,
            artifact,
            init_digest,
        };
        let begins = begin_with.map(|checkpoint| Record::CheckpointPublished { job, checkpoint, at: clock::now() });
        self.commit(std::iter::once(record).chain(begins).collect()).await?;
        self.job_view(job)
    }

    fn check_feasible(&self, spec: &JobSpec) -> Result<(), ControlError> {
        let offers = self.parts.provider.offers(&[]);
        let demand = demand_of(spec);
        let Some(offer) = cheapest_fit(&demand, &offers, true) else {
            let largest =
                offers.iter().filter(|offer| spec.market.allows(offer.market)).max_by_key(|offer| offer.size.cpus);
            let nearest = largest.map_or("there is no offer on that market".to_owned(), |offer| {
                format!(
                    "the largest is {} with {} cpus and {} at {}",
                    offer.name, offer.size.cpus, offer.size.memory, offer.price
                )
            });
            let price = spec.max_price.map(|price| format!(" at most {price}")).unwrap_or_default();
            let need = match spec.market {
                MarketChoice::Auto => format!("{} cpus and {}{price}", demand.need.cpus, demand.need.memory),
                market => format!("{} cpus and {} on the {market} market{price}", demand.need.cpus, demand.need.memory),
            };
            return Err(ControlError::Infeasible {
                why: format!("no offer ever carries a worker of {need}; {nearest}"),
            });
        };
        let extra = u32::from(demand.separate_server);
        self.check_budget(spec, spec.workers.min + extra, offer)?;
        let most: u32 = offers
            .iter()
            .filter(|offer| spec.market.allows(offer.market) && offer.size.fits(demand.need))
            .map(|offer| offer.available)
            .sum();
        let least = spec.workers.min + extra;
        if least > most {
            let why = format!(
                "needs {least} nodes to start, and all fitting offers together have {most} (cheapest: {})",
                offer.name
            );
            return Err(ControlError::Infeasible { why });
        }
        Ok(())
    }

    /// A job whose budget cannot even start it is refused at once.
    fn check_budget(&self, spec: &JobSpec, least: u32, cheapest: &Offer) -> Result<(), ControlError> {
        let Some(limit) = spec.budget.and_then(|budget| budget.max_cost) else { return Ok(()) };
        let each = self.worst_case(cheapest.price);
        let needed: MicroUsd = (0..least).map(|_| each).sum();
        if needed <= limit {
            return Ok(());
        }
        let why = format!(
            "budget.max_cost {limit} is below the {needed} that must be set aside for the {least} node(s) it starts with: \
             {each} each at {} until one can certainly be given back",
            cheapest.price
        );
        Err(ControlError::Infeasible { why })
    }

    pub(super) async fn stop_job(&mut self, name: &str, stop: Stop, reply: Reply<JobView>) -> Changed {
        let answer = self.stop(name, stop).await;
        let changed = if answer.is_ok() { Changed::Yes } else { Changed::No };
        let _ = reply.send(answer);
        changed
    }

    async fn stop(&mut self, name: &str, stop: Stop) -> Result<JobView, ControlError> {
        let entry = self.state.find_job(name).ok_or_else(|| not_found("job", name))?;
        let (job, server) = (entry.id, entry.membership.as_ref().and_then(|group| group.lead()));
        if entry.state.is_terminal() {
            let why = format!("{job} ({}) has ended already: {}", entry.name, entry.state);
            return Err(ControlError::Conflict { why });
        }
        let running = server.filter(|server| self.live.workers.contains_key(server));
        match running.filter(|_| stop == Stop::Save) {
            Some(server) => {
                let record = self.job_record(job, JobState::Stopping, "stopped on request; saving its state");
                self.commit(record.into_iter().collect()).await?;
                self.live.stop_until.insert(job, clock::now() + STOP_WAIT);
                self.tell_worker(job, server, WorkerCommand::Stop { save: true });
            }
            None => {
                let record = self.job_record(job, JobState::Cancelled(CancelReason::User), "stopped on request");
                self.commit(record.into_iter().collect()).await?;
            }
        }
        self.job_view(job)
    }

    pub(super) fn preempt(&mut self, node: NodeId, notice: Millis, reply: Reply<NodeView>) -> Changed {
        let answer = self.try_preempt(node, notice);
        let _ = reply.send(answer);
        Changed::No
    }

    fn try_preempt(&self, node: NodeId, notice: Millis) -> Result<NodeView, ControlError> {
        let entry = self.state.nodes.get(&node).ok_or_else(|| not_found("node", &node.to_string()))?;
        let conflict = |why: String| Err(ControlError::Conflict { why });
        if entry.market != Market::Spot {
            return conflict(format!("{node} is rented on demand; only spot nodes are taken back"));
        }
        if entry.notice_until.is_some() || entry.state.is_terminal() {
            return conflict(format!("{node} is going already ({})", entry.state));
        }
        if !matches!(entry.state, NodeState::Joining | NodeState::Ready | NodeState::Unreachable) {
            return conflict(format!("{node} is {}; wait until it is ready", entry.state));
        }
        self.parts.provider.preempt(node, notice);
        Ok(self.node_view(entry))
    }

    pub(super) fn end_nodes(&mut self, reply: Reply<()>) -> Changed {
        self.live.ending_all = Some(EndingAll { reply: Some(reply), save_until: clock::now() + DOWN_WAIT });
        Changed::Yes
    }

    pub(super) fn answer_jobs(&self, which: Which, reply: Reply<Vec<JobView>>) -> Changed {
        let shown = self.state.jobs.values().filter(|job| which == Which::All || !job.state.is_terminal());
        let _ = reply.send(Ok(shown.map(|job| self.view_job(job)).collect()));
        Changed::No
    }

    pub(super) fn answer_job(&self, name: &str, reply: Reply<JobView>) -> Changed {
        let found = self.state.find_job(name).map(|job| self.view_job(job));
        let _ = reply.send(found.ok_or_else(|| not_found("job", name)));
        Changed::No
    }

    pub(super) fn answer_job_file(&self, name: &str, reply: Reply<JobFile>) -> Changed {
        let found = self.state.find_job(name).map(|job| job.file.clone());
        let _ = reply.send(found.ok_or_else(|| not_found("job", name)));
        Changed::No
    }

    pub(super) fn answer_nodes(&self, which: Which, reply: Reply<Vec<NodeView>>) -> Changed {
        let shown = self.state.nodes.values().filter(|node| which == Which::All || !node.state.is_terminal());
        let _ = reply.send(Ok(shown.map(|node| self.node_view(node)).collect()));
        Changed::No
    }

    pub(super) fn answer_explain(&self, subject: &str, reply: Reply<Explanation>) -> Changed {
        let _ = reply.send(self.explain(subject).ok_or_else(|| not_found("job or node", subject)));
        Changed::No
    }

    pub(super) fn answer_bill(&self, job: Option<&str>, reply: Reply<BillView>) -> Changed {
        let bill = match job {
            None => Ok(self.bill(None)),
            Some(name) => match self.state.find_job(name) {
                Some(job) => Ok(self.bill(Some(job.id))),
                None => Err(not_found("job", name)),
            },
        };
        let _ = reply.send(bill);
        Changed::No
    }

    pub(super) fn answer_status(&self, reply: Reply<StatusView>) -> Changed {
        let status = StatusView {
            cluster: self.state.cluster.clone(),
            started: self.live.started,
            pid: std::process::id(),
            home: self.parts.home.path().to_owned(),
            journal_records: 0,
            live_jobs: self.state.live_jobs().count(),
            live_nodes: self.state.live_nodes().count(),
        };
        let _ = reply.send(Ok(status));
        Changed::No
    }

    fn job_view(&self, job: JobId) -> Result<JobView, ControlError> {
        self.state.jobs.get(&job).map(|job| self.view_job(job)).ok_or_else(|| not_found("job", &job.to_string()))
    }
}

/// Digest of what defines a job's result, in hex: [`JobSpec::canonical`] under blake3, with the digest of the weights it
/// begins with where there are any.
pub fn spec_hash(spec: &JobSpec, init_digest: Option<&str>) -> String {
    let init = init_digest.map(|digest| format!("train.init.digest = {digest}\n")).unwrap_or_default();
    blake3::hash((spec.canonical() + &init).as_bytes()).to_hex().to_string()
}

/// E023: a job that will most likely be stopped by its own budget is not begun.
fn check_forecast(spec: &JobSpec, estimate: Option<EstimateRecord>) -> Result<(), ControlError> {
    let limit = spec.budget.and_then(|budget| budget.max_cost);
    match (limit, estimate) {
        (Some(limit), Some(EstimateRecord { cost_p50, .. })) if cost_p50 > limit => {
            let why = format!("the job will most likely cost {cost_p50}, and budget.max_cost is {limit}");
            Err(ControlError::Refused { code: Code::OverForecast, why })
        }
        _ => Ok(()),
    }
}

/// E025 and E026: a job whose deadline has passed, or that is too long for its deadline, even if as many workers as it may have made it faster in proportion.
fn check_deadline(spec: &JobSpec, estimate: Option<EstimateRecord>, now: Millis) -> Result<(), ControlError> {
    let Some(deadline) = spec.deadline.map(|deadline| deadline.moment(now)) else { return Ok(()) };
    if deadline <= now {
        return Err(ControlError::Refused { code: Code::Deadline, why: "the deadline is in the past".to_owned() });
    }
    let Some(EstimateRecord { lasts, .. }) = estimate else { return Ok(()) };
    let left = deadline.since(now);
    let at_best = lasts.get() * u64::from(spec.workers.target) / u64::from(spec.workers.max);
    if at_best <= left.get() {
        return Ok(());
    }
    let why = format!(
        "the deadline is in {left}, and the job is expected to take {lasts} with {} worker(s)",
        spec.workers.target
    );
    Err(ControlError::Refused { code: Code::DeadlineTooShort, why })
}

fn not_found(what: &str, name: &str) -> ControlError {
    ControlError::NotFound { what: format!("{what} {name}") }
}

/// What a job that does not exist yet would want.
fn demand_of(spec: &JobSpec) -> JobDemand {
    JobDemand {
        id: JobId::new(0),
        submitted: Millis::ZERO,
        workers: spec.workers,
        need: spec.resources,
        market: spec.market.named(),
        max_price: spec.max_price,
        separate_server: spec.separate_server(),
        given_up: 0,
        started: false,
        stopping: false,
        hold_until: None,
        placed: Vec::new(),
        leaving: Vec::new(),
        terms: terms_of(spec, Millis::ZERO),
    }
}

/// What a job file asks for beyond workers of a size.
pub(super) fn terms_of(spec: &JobSpec, submitted: Millis) -> JobTerms {
    JobTerms {
        project: spec.project.clone(),
        priority: spec.priority,
        objective: spec.objective,
        either_market: spec.market == MarketChoice::Auto,
        deadline: spec.deadline.map(|deadline| deadline.moment(submitted)),
        rate_max: spec.budget.and_then(|budget| budget.max_cost_per_hour),
        ..JobTerms::default()
    }
}
