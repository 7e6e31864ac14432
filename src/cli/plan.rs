//! `neap plan`: what a job will cost and when it will be done, before it runs.
//!
//! Works without a control plane: the job file says what is to be done, a second of measuring how fast this machine does
//! it, the configuration what nodes cost, and a recording of a spot market (`--trace`) what may happen to them. Where the
//! control plane knows how long the same job took before, that is taken instead of the measurement, which cannot know what
//! the exchange of parameters and the evaluation cost.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use neap_control::{Config, LocalOffer, RESTART, spec_hash};
use neap_runtime::wire::training::{LaunchPlace, TrainLaunch};
use neap_scheduler::estimate::{
    self, AssumedPrices, AssumedStays, Calibration, Cause, Change, MarketHistory, Plan, PlanInput, PlanJob,
    PlanRefusal, Speedup, UnsafeSpot,
};
use neap_scheduler::model::{JobId, Market, MarketChoice, MicroUsd, Millis};
use neap_scheduler::policy::deadline::Adaptive;
use neap_scheduler::sim::spot::{ZoneTrace, read_zone_traces};
use neap_scheduler::spec::{CheckpointEvery, JobSpec, TrainSpec};
use neap_storage::object::{Access, Patience};
use neap_training::init::weights_digest;
use neap_training::measure::{Measured, measure};
use serde_json::{Value, json};

use crate::artifact::Artifact;
use crate::http::body::{EstimateBody, JobStateBody};

use super::Shell;
use super::args::PlanArgs;
use super::client::Listed;
use super::exit::{CliError, Exit};
use super::output::{coarse, fields, now, percent};
use super::roles;
use super::validate::{Checked, JobFile};

/// How long the job's steps are measured.
const MEASURE: Duration = Duration::from_secs(1);

/// How long an object store is waited for: somebody waits for the plan.
const STORE_PATIENCE: Patience =
    Patience { request: Duration::from_secs(3), total: Duration::from_secs(4), retries_max: 3 };

/// A job is simulated in at least this many rounds.
const ROUNDS_MIN: u64 = 64;

/// How much of the future an unlimited market is written down for, in lengths of the job.
const LENGTHS: u64 = 40;

pub(super) fn plan(shell: &Shell, args: &PlanArgs) -> Result<Exit, CliError> {
    let file = JobFile::read(&args.file)?;
    let Checked { job, artifact } = file.check(shell)?;
    let spec = job.spec;
    if spec.train().is_some() {
        shell.output.remark("measuring how fast this machine trains the job");
    }
    let unsafe_spot = if args.allow_unsafe_spot { UnsafeSpot::Allow } else { UnsafeSpot::Refuse };
    let how = How {
        trace: args.trace.as_deref(),
        measure: MEASURE,
        seed: args.seed,
        unsafe_spot,
        artifact: artifact.as_ref(),
    };
    let shown = make(shell, &spec, &how)?;
    shell.output.document(&shown.json(), &file.name, || shown.text())?;
    Ok(if args.detailed_exitcode && shown.breaks_a_limit() { Exit::Risky } else { Exit::Ok })
}

/// How a plan is made.
pub(super) struct How<'a> {
    /// A recording of a spot market.
    pub(super) trace: Option<&'a Path>,
    /// How long the job's steps are measured.
    pub(super) measure: Duration,
    /// Draws the futures.
    pub(super) seed: u64,
    /// Whether a job is planned that would hardly ever be done.
    pub(super) unsafe_spot: UnsafeSpot,
    /// The program that the job brings along.
    pub(super) artifact: Option<&'a Artifact>,
}

/// Measures and plans a job.
///
/// # Errors
///
/// Why there is no plan.
pub(super) fn make<'a>(shell: &Shell, spec: &'a JobSpec, how: &How<'_>) -> Result<Shown<'a>, CliError> {
    let train = spec.train().ok_or(CliError::NoEstimate)?;
    let measured = measured(shell, launch(spec, train), how)?;
    let config = roles::config(&shell.home, None).map_err(|error| CliError::Usage(error.to_string()))?;
    let offer = cheapest(spec, &config).ok_or_else(|| CliError::Usage(no_offer(spec)))?;
    let past = past_runs(shell, spec);
    let job = plan_job(spec, &measured, &past)?;
    let (zones, market) = match (how.trace, observed_stays(shell, &offer)) {
        (Some(path), _) => (read_trace(path)?, KnownMarket::Recorded),
        (None, Some(stays)) => (vec![observed_market(&offer, &job, stays, how.seed)], KnownMarket::Observed(stays)),
        (None, None) => (vec![steady_market(&offer, &job)], KnownMarket::Nothing),
    };
    let history = MarketHistory::new(zones.iter().collect(), usize::MAX, job.workers);
    let (likeness, fitted) = estimate::FITTED;
    let input = PlanInput {
        job: &job,
        history: &history,
        boot: Millis::new(offer.boot_ms),
        policy: &Adaptive::new(),
        likeness,
        // What was fitted to recorded markets says nothing about one that never runs out.
        calibration: if how.trace.is_some() { fitted } else { Calibration::default() },
        seed: how.seed,
    };
    let plan = estimate::plan(&input, how.unsafe_spot).map_err(CliError::NoPlan)?;
    Ok(Shown { spec, job, measured, past, plan, market })
}

/// How fast the program that trains the job does it on this machine.
fn measured(shell: &Shell, launch: TrainLaunch, how: &How<'_>) -> Result<Measured, CliError> {
    match how.artifact {
        None => measure(launch, shell.program.entries(), how.measure).map_err(CliError::Measure),
        Some(artifact) => match artifact.measure(&launch, how.measure) {
            Some(measured) => measured.map_err(CliError::MeasureArtifact),
            None => Err(CliError::MeasureArtifact("is not on this machine; name it by its path".to_owned())),
        },
    }
}

/// The job's launch data, of which only what decides the computing is looked at.
fn launch(spec: &JobSpec, train: &TrainSpec) -> TrainLaunch {
    let place = LaunchPlace {
        job: JobId::new(0),
        job_name: String::new(),
        spec_hash: String::new(),
        init_digest: None,
        checkpoint_folder: String::new(),
        model_folder: String::new(),
    };
    TrainLaunch::new(spec, train, place)
}

fn read_trace(path: &Path) -> Result<Vec<ZoneTrace>, CliError> {
    let text = fs::read_to_string(path).map_err(|source| CliError::ReadFile { path: path.to_owned(), source })?;
    let zones =
        read_zone_traces(&path.display().to_string(), &text).map_err(|error| CliError::Usage(error.to_string()))?;
    let name = path.display();
    match zones.first() {
        None => Err(CliError::Usage(format!("{name} records no zone"))),
        Some(first) if zones.iter().any(|zone| zone.tick != first.tick || zone.instance != first.instance) => {
            let why = "zones of other machines or ticks; keep the lines of one kind";
            Err(CliError::Usage(format!("{name}: {why}")))
        }
        Some(_) => Ok(zones),
    }
}

/// The offer that the job's market prices are taken from.
fn cheapest(spec: &JobSpec, config: &Config) -> Option<LocalOffer> {
    let offers = config.local.offers.iter().filter(|offer| offer.size().fits(spec.resources));
    let price = |offer: &LocalOffer| match spec.market {
        MarketChoice::Auto => offer.price(Market::Spot).zip(offer.price(Market::OnDemand)).map(|(spot, _)| spot),
        one => offer.price(one.named()),
    };
    offers.filter(|offer| price(offer).is_some()).min_by_key(|offer| price(offer)).cloned()
}

fn no_offer(spec: &JobSpec) -> String {
    let need = spec.resources;
    format!("no offer carries a worker of {} cpus and {} on the {} market", need.cpus, need.memory, spec.market)
}

/// How long the same job took before, from its first step to its end; the shortest first.
fn past_runs(shell: &Shell, spec: &JobSpec) -> Vec<Millis> {
    let init = spec.train().and_then(|train| train.init.as_ref());
    let access = Access::from_environment().patient(STORE_PATIENCE);
    let init = init.and_then(|init| weights_digest(Path::new(&init.path), &access).ok());
    let hash = spec_hash(spec, init.as_deref());
    let jobs = shell.client().and_then(|client| Ok(client.jobs(Listed::All)?)).unwrap_or_default();
    let same = jobs.iter().filter(|job| job.spec_hash == hash && job.state == JobStateBody::Succeeded);
    let mut runs: Vec<Millis> = same
        .filter_map(|job| Some(job.ended_ms?.since(job.first_step_ms?)))
        .filter(|took| *took > Millis::ZERO)
        .collect();
    runs.sort_unstable();
    runs
}

fn plan_job(spec: &JobSpec, measured: &Measured, past: &[Millis]) -> Result<PlanJob, CliError> {
    let cores = available_parallelism().map_or(1, |cores| cores.get() as u32);
    let threads = spec.resources.cpus.cores_ceil().max(1);
    // The local provider's nodes share this machine.
    let speed = |workers: u32| f64::from((workers * threads).min(cores));
    let workers = spec.workers.target;
    let rate = match past.get(past.len() / 2) {
        Some(took) => measured.samples as f64 / took.as_secs_f64(),
        None => measured.samples_per_second * speed(workers),
    };
    let time = |samples: u64| Millis::new((samples as f64 / rate * 1_000.0).ceil() as u64);
    let submitted = now();
    let deadline = spec.deadline.map(|deadline| deadline.moment(submitted));
    if deadline.is_some_and(|moment| moment <= submitted) {
        return Err(CliError::NoPlan(PlanRefusal::DeadlinePast));
    }
    Ok(PlanJob {
        work: time(measured.samples).max(Millis::new(1)),
        workers,
        workers_min: spec.workers.min,
        workers_max: spec.workers.max,
        speedup: Speedup((1..=spec.workers.max).map(|workers| (workers, speed(workers))).collect()),
        restart: RESTART,
        checkpoint: match spec.checkpoint.every {
            CheckpointEvery::Time(every) => Some(every),
            _ => measured.samples_per_checkpoint.map(time),
        },
        market: spec.market,
        deadline: deadline.map(|moment| moment.since(submitted)),
        budget: spec.budget.and_then(|budget| budget.max_cost),
        max_price: spec.max_price,
    })
}

/// What a plan's spot market was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownMarket {
    /// A recording of one.
    Recorded,
    /// How often the control plane's nodes were taken back, on average after this time.
    Observed(AssumedStays),
    /// Nothing: it never runs out.
    Nothing,
}

impl KnownMarket {
    /// In a few words, for people.
    fn text(self) -> String {
        match self {
            Self::Recorded => "recorded".to_owned(),
            Self::Observed(AssumedStays { with, .. }) => {
                format!("taken back after {} on average, as seen here", coarse(with))
            }
            Self::Nothing => "never sold out".to_owned(),
        }
    }
}

/// How long spot nodes of an offer were kept, where the control plane has seen some taken back.
fn observed_stays(shell: &Shell, offer: &LocalOffer) -> Option<AssumedStays> {
    let name = format!("local/{}/{}", offer.name, Market::Spot);
    let offers = shell.client().ok()?.offers().ok()?;
    let seen = offers.into_iter().find(|one| one.name == name && one.interruptions > 0)?;
    let with = Millis::new(seen.observed_ms.get() / seen.interruptions).max(Millis::new(1));
    // Another one is asked for at once; how long that may fail was not seen.
    Some(AssumedStays { with, without: seen.boot_ms.max(Millis::new(1)) })
}

/// A market that takes nodes back as often as was seen.
fn observed_market(offer: &LocalOffer, job: &PlanJob, stays: AssumedStays, seed: u64) -> ZoneTrace {
    let steady = steady_market(offer, job);
    let spot = steady.spot.first().copied().unwrap_or_default();
    let prices = AssumedPrices { spot, on_demand: steady.on_demand.unwrap_or(spot) };
    let zone = stays.zone_of(steady.tick, steady.counts.len(), prices, seed);
    let counts = zone.counts.iter().map(|there| there * job.workers).collect();
    ZoneTrace { counts, on_demand: steady.on_demand, zone: steady.zone, instance: steady.instance, ..zone }
}

/// A market that never runs out: that of this machine, where nothing was recorded.
fn steady_market(offer: &LocalOffer, job: &PlanJob) -> ZoneTrace {
    let tick = Millis::new((job.work.get() / ROUNDS_MIN).max(1_000));
    let ticks = (ROUNDS_MIN * LENGTHS) as usize;
    let on_demand = offer.price(Market::OnDemand);
    let spot = offer.price(Market::Spot).or(on_demand).unwrap_or_default();
    ZoneTrace {
        zone: "local".to_owned(),
        instance: offer.name.clone(),
        tick,
        counts: vec![job.workers; ticks],
        spot: vec![spot; ticks],
        on_demand,
    }
}

/// A plan and what it was made from.
pub(super) struct Shown<'a> {
    spec: &'a JobSpec,
    job: PlanJob,
    measured: Measured,
    past: Vec<Millis>,
    plan: Plan,
    market: KnownMarket,
}

impl Shown<'_> {
    /// Whether the P95 is beyond what the job file allows.
    fn breaks_a_limit(&self) -> bool {
        let over_budget = self.job.budget.is_some_and(|budget| self.plan.cost_p95 > budget);
        let late =
            self.job.deadline.is_some_and(|deadline| self.plan.finish_p95.is_none_or(|finish| finish > deadline));
        over_budget || late
    }

    /// The plan in a few lines.
    pub(super) fn brief(&self) -> String {
        let causes: Vec<String> = self.causes().map(|(cause, amount)| format!("{amount} {}", cause.text())).collect();
        fields(&[
            ("cost", Some(self.cost_text())),
            ("done after", Some(self.done_text())),
            ("keeps budget", self.plan.keeps_budget.map(percent)),
            ("keeps deadline", self.plan.keeps_deadline.map(percent)),
            ("because of", (!causes.is_empty()).then(|| causes.join(", "))),
        ])
    }

    /// What the control plane is told of it; nothing where the job is not expected to be done.
    pub(super) fn estimate(&self) -> Option<EstimateBody> {
        let (cost_p50_micro_usd, cost_p95_micro_usd) = (self.plan.cost_p50, self.plan.cost_p95);
        self.plan.finish_p50.map(|lasts_ms| EstimateBody { cost_p50_micro_usd, cost_p95_micro_usd, lasts_ms })
    }

    /// Whether the job costs more than its own budget, as likely as not.
    pub(super) fn is_over_budget(&self) -> bool {
        self.job.budget.is_some_and(|budget| self.plan.cost_p50 > budget)
    }

    fn cost_text(&self) -> String {
        format!("P50 {}, P95 {}", self.plan.cost_p50, self.plan.cost_p95)
    }

    fn done_text(&self) -> String {
        format!("P50 {}, P95 {}", done(self.plan.finish_p50), done(self.plan.finish_p95))
    }

    fn causes(&self) -> impl Iterator<Item = (Cause, MicroUsd)> {
        self.plan.causes.iter().copied().filter(|(_, amount)| *amount > MicroUsd::ZERO)
    }

    fn text(&self) -> String {
        let plan = &self.plan;
        let (work, workers) = (coarse(self.job.work), self.job.workers);
        let rate = self.measured.samples_per_second.round();
        let mut text = fields(&[
            ("work", Some(format!("{} samples, {work} on {workers} worker(s)", self.measured.samples))),
            ("measured", self.past.is_empty().then(|| format!("{rate} samples/s on one thread, computing alone"))),
            ("before", self.past.first().map(|_| format!("the same job ran {} time(s)", self.past.len()))),
            ("market", Some(format!("{}, {}", self.spec.market, self.market.text()))),
            ("cost", Some(self.cost_text())),
            ("done after", Some(self.done_text())),
            ("keeps budget", plan.keeps_budget.map(percent)),
            ("keeps deadline", plan.keeps_deadline.map(percent)),
        ]);
        text.push_str("\ncost comes from\n");
        for (cause, amount) in self.causes() {
            text.push_str(&format!("  {amount:>12}  {}\n", cause.text()));
        }
        if !plan.alternatives.is_empty() {
            text.push_str("\ncheaper\n");
        }
        for other in &plan.alternatives {
            let (cost, saving) = (other.cost_p50, other.saving);
            text.push_str(&format!(
                "  {cost:>12}  {} (saves {saving}, done after {})\n",
                change(other.change),
                done(other.finish_p50)
            ));
        }
        text
    }

    fn json(&self) -> Value {
        let plan = &self.plan;
        let causes: Vec<Value> = plan.causes.iter().map(|&(cause, amount)| cause_json(cause, amount)).collect();
        let others = plan.alternatives.iter().map(|other| {
            json!({
                "change": change(other.change),
                "cost_p50_micro_usd": other.cost_p50,
                "saving_micro_usd": other.saving,
                "finish_p50_ms": other.finish_p50,
                "keeps_deadline": other.keeps_deadline,
            })
        });
        json!({
            "samples": self.measured.samples,
            "samples_per_second_per_thread": self.measured.samples_per_second,
            "past_runs": self.past.len(),
            "workers": self.job.workers,
            "work_ms": self.job.work,
            "recorded_market": self.market == KnownMarket::Recorded,
            "observed_stay_ms": match self.market {
                KnownMarket::Observed(stays) => Some(stays.with),
                KnownMarket::Recorded | KnownMarket::Nothing => None,
            },
            "cost_p50_micro_usd": plan.cost_p50,
            "cost_p95_micro_usd": plan.cost_p95,
            "finish_p50_ms": plan.finish_p50,
            "finish_p95_ms": plan.finish_p95,
            "keeps_budget": plan.keeps_budget,
            "keeps_deadline": plan.keeps_deadline,
            "causes": causes,
            "alternatives": others.collect::<Vec<Value>>(),
        })
    }
}

fn done(at: Option<Millis>) -> String {
    at.map_or("not within ten times its ideal time".to_owned(), coarse)
}

fn cause_json(cause: Cause, amount: MicroUsd) -> Value {
    json!({ "cause": cause.text(), "mean_micro_usd": amount })
}

fn change(change: Change) -> String {
    match change {
        Change::Market(market) => format!("market: {market}"),
        Change::Workers(workers) => format!("workers: {workers}"),
        Change::Deadline(deadline) => format!("deadline: {}", coarse(deadline)),
    }
}
