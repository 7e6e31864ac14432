//! From a job and its market to a plan, or to a refusal.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::model::{MarketChoice, MicroUsd, MicroUsdPerHour, Millis};
use crate::policy::deadline::{DeadlinePolicy, OnDemandOnly};

use super::draws::{Calibration, Draws};
use super::future::{Likeness, MarketHistory};
use super::job::PlanJob;
use super::only::SpotOnly;
use super::run::{Cause, RunOutcome, run};

/// How many futures the plan itself and each alternative is made from. Of 200, the P95 is the tenth from above.
const FUTURES: usize = 200;
const FUTURES_OF_ALTERNATIVE: usize = 100;

/// The rounds in which futures are simulated are at least this long: short beside the hours that jobs take, and long
/// enough that a recording with 30 s ticks is planned in as little time as one with 10 min ticks.
const ROUND_MIN: Millis = Millis::from_secs(300);

/// A job that needs no more than this many rounds gets shorter ones.
const ROUNDS_OF_JOB: u64 = 64;

/// The chance of being done below which a spot job that saves nothing is refused (error E020).
const DONE_CHANCE_MIN: f64 = 0.5;

/// An alternative is worth showing if it saves this share of the cost: less is within the noise of 100 futures.
const SAVING_MIN: f64 = 0.05;

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// The job.
    pub job: &'a PlanJob,
    /// The zones it may use, and their past.
    pub history: &'a MarketHistory<'a>,
    /// From the request for a node to the node.
    pub boot: Millis,
    /// The policy that production runs jobs of market `auto` under.
    pub policy: &'a dyn DeadlinePolicy,
    /// How strongly futures are preferred that begin as the present is.
    pub likeness: Likeness,
    /// Where quantiles are read.
    pub calibration: Calibration,
    /// Draws the futures.
    pub seed: u64,
}

/// What a job will cost, and when it will be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The cost, as likely more as less.
    pub cost_p50: MicroUsd,
    /// The cost that is not exceeded 19 times of 20.
    pub cost_p95: MicroUsd,
    /// When it is done, as likely later as earlier; `None` where it is not done within ten times its ideal time.
    pub finish_p50: Option<Millis>,
    /// When it is done 19 times of 20.
    pub finish_p95: Option<Millis>,
    /// The chance of keeping the budget.
    pub keeps_budget: Option<f64>,
    /// The chance of keeping the deadline.
    pub keeps_deadline: Option<f64>,
    /// The up to three biggest causes of cost, with their mean, the dearest first.
    pub causes: Vec<(Cause, MicroUsd)>,
    /// What would cost less, the cheapest first.
    pub alternatives: Vec<Alternative>,
}

/// The same job with one thing changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// What is changed.
    pub change: Change,
    /// What it would then cost.
    pub cost_p50: MicroUsd,
    /// What that saves.
    pub saving: MicroUsd,
    /// When it would then be done.
    pub finish_p50: Option<Millis>,
    /// The chance of keeping the deadline, the later one where that is the change.
    pub keeps_deadline: Option<f64>,
}

/// One thing that can be changed about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another market.
    Market(MarketChoice),
    /// Fewer workers.
    Workers(u32),
    /// A later deadline.
    Deadline(Millis),
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanRefusal {
    /// The job would hardly ever be done.
    #[error(
        "error[E020] a spot job without checkpoints: the chance of being done within {within} is {:.0} %; save checkpoints, \
         use market: auto, or force it with --allow-unsafe-spot",
        chance * 100.0
    )]
    UnsafeSpot {
        /// The deadline, or ten times its ideal time.
        within: Millis,
        /// The chance.
        chance: f64,
    },
    /// A budget that pays for nothing.
    #[error("error[E021] budget.max_cost must be above zero")]
    ZeroBudget,
    /// A deadline that is over before the job begins.
    #[error("error[E025] the deadline is in the past")]
    DeadlinePast,
    /// A deadline that no number of workers can keep.
    #[error("error[E026] the deadline leaves {deadline}, but the job takes at least {fastest} on all its workers")]
    DeadlineUnreachable {
        /// The time there is.
        deadline: Millis,
        /// The time it takes, with one start.
        fastest: Millis,
    },
    /// Nothing is known about the spot market.
    #[error("nothing was ever recorded about the spot market of this job")]
    NoHistory,
    /// No zone's price is within the job's limit.
    #[error("error[E017] max_price is below every offer; the cheapest is {cheapest}")]
    MaxPrice {
        /// The lowest price there is.
        cheapest: MicroUsdPerHour,
    },
}

/// Whether a spot job that saves nothing is planned although it would hardly ever be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsafeSpot {
    /// It is refused.
    Refuse,
    /// It is planned.
    Allow,
}

/// Plans a job.
///
/// # Errors
///
/// See [`PlanRefusal`].
pub fn plan(input: &PlanInput<'_>, unsafe_spot: UnsafeSpot) -> Result<Plan, PlanRefusal> {
    let job = input.job;
    check_limits(input)?;
    check_price(input)?;
    let draws = draw(input, job, FUTURES)?;
    let done = draws.done_within(job.patience());
    let risky = job.market == MarketChoice::Spot && job.checkpoint.is_none() && done < DONE_CHANCE_MIN;
    if risky && unsafe_spot == UnsafeSpot::Refuse {
        return Err(PlanRefusal::UnsafeSpot { within: job.patience(), chance: done });
    }
    let cost_p50 = draws.cost_at(input.calibration.p50);
    let mut causes = draws.causes();
    causes.truncate(3);
    Ok(Plan {
        cost_p50,
        cost_p95: draws.cost_at(input.calibration.p95).max(cost_p50),
        finish_p50: draws.finish_at(0.5),
        finish_p95: draws.finish_at(0.95),
        keeps_budget: job.budget.map(|budget| draws.within_budget(budget)),
        keeps_deadline: job.deadline.map(|deadline| draws.done_within(deadline)),
        causes,
        alternatives: alternatives(input, cost_p50),
    })
}

fn check_limits(input: &PlanInput<'_>) -> Result<(), PlanRefusal> {
    if input.job.budget == Some(MicroUsd::ZERO) {
        return Err(PlanRefusal::ZeroBudget);
    }
    let fastest = input.job.fastest() + input.job.restart + input.boot;
    match input.job.deadline {
        Some(Millis::ZERO) => Err(PlanRefusal::DeadlinePast),
        Some(deadline) if deadline < fastest => Err(PlanRefusal::DeadlineUnreachable { deadline, fastest }),
        _ => Ok(()),
    }
}

fn check_price(input: &PlanInput<'_>) -> Result<(), PlanRefusal> {
    let Some(limit) = input.job.max_price else { return Ok(()) };
    let zones = || 0..input.history.zones();
    let on_demand = || zones().map(|zone| input.history.on_demand(zone)).min();
    let spot = || zones().filter_map(|zone| input.history.lowest_spot(zone)).min();
    let cheapest = match input.job.market {
        MarketChoice::OnDemand => on_demand(),
        MarketChoice::Spot => spot(),
        MarketChoice::Auto => spot().into_iter().chain(on_demand()).min(),
    };
    cheapest.filter(|cheapest| *cheapest > limit).map_or(Ok(()), |cheapest| Err(PlanRefusal::MaxPrice { cheapest }))
}

/// Runs a job through `futures` futures.
///
/// # Errors
///
/// If it may use spot nodes and nothing is known about them.
pub fn draw(input: &PlanInput<'_>, job: &PlanJob, futures: usize) -> Result<Draws, PlanRefusal> {
    let on_demand: Box<dyn DeadlinePolicy> = Box::new(OnDemandOnly);
    let policy = match job.market {
        MarketChoice::OnDemand => on_demand,
        MarketChoice::Spot => SpotOnly.fresh(),
        MarketChoice::Auto => input.policy.fresh(),
    };
    let history = input.history.coarse(round(job));
    let length = length(job, input.boot, history.tick());
    let once = |future: &[u32], policy: &dyn DeadlinePolicy| -> RunOutcome {
        run(job, input.boot, &history, future, policy.fresh().as_mut())
    };
    // On demand nothing is left to chance: any tick of the past stands for the future.
    let certain = once(&vec![0; length], &OnDemandOnly);
    let worst = certain.cost() + certain.by_cause[Cause::Starts as usize];
    if job.market == MarketChoice::OnDemand {
        return Ok(Draws::of(&[certain], worst));
    }
    if history.is_empty() {
        return Err(PlanRefusal::NoHistory);
    }
    let drawn = history.futures(input.likeness);
    let mut rng = ChaCha8Rng::seed_from_u64(input.seed);
    let runs: Vec<RunOutcome> = (0..futures).map(|_| once(&drawn.draw(length, &mut rng), policy.as_ref())).collect();
    Ok(Draws::of(&runs, worst))
}

/// The length of a round: a job of minutes is not planned in rounds of minutes.
fn round(job: &PlanJob) -> Millis {
    ROUND_MIN.min(Millis::new((job.work.get() / ROUNDS_OF_JOB).max(1_000)))
}

/// Ticks after which a job that is not done is given up: ten times its ideal time, and never before its deadline. The
/// policies of market `auto` end soon after the deadline.
fn length(job: &PlanJob, boot: Millis, tick: Millis) -> usize {
    let start = (job.restart + boot).get();
    let longest = match job.market {
        MarketChoice::OnDemand => job.work.get() + start,
        MarketChoice::Spot => job.patience().get().max(job.work.get() * super::IDEAL_TIMES_MAX),
        MarketChoice::Auto => job.patience().get().max(job.work.get() + start) + job.work.get(),
    };
    (longest + start).div_ceil(tick.get()) as usize + 1
}

fn alternatives(input: &PlanInput<'_>, cost: MicroUsd) -> Vec<Alternative> {
    let mut found: Vec<Alternative> =
        changes(input.job).into_iter().filter_map(|(change, job)| alternative(input, cost, change, &job)).collect();
    found.sort_by_key(|alternative| alternative.cost_p50);
    found
}

/// The jobs with one thing changed.
fn changes(job: &PlanJob) -> Vec<(Change, PlanJob)> {
    let mut changes = Vec::new();
    for market in [MarketChoice::OnDemand, MarketChoice::Auto, MarketChoice::Spot] {
        if market != job.market {
            changes.push((Change::Market(market), PlanJob { market, ..job.clone() }));
        }
    }
    let fewer = job.workers.div_ceil(2);
    if (job.workers_min..job.workers).contains(&fewer) {
        changes.push((Change::Workers(fewer), job.with_workers(fewer)));
    }
    if let Some(deadline) = job.deadline.filter(|_| job.market == MarketChoice::Auto) {
        // Half as long again: enough to change what the policy does, little enough to be considered.
        let later = Millis::new(deadline.get() + deadline.get() / 2);
        changes.push((Change::Deadline(later), PlanJob { deadline: Some(later), ..job.clone() }));
    }
    changes
}

/// What a change saves; `None` if little, or if the job would then not be done in time more often than not.
fn alternative(input: &PlanInput<'_>, cost: MicroUsd, change: Change, job: &PlanJob) -> Option<Alternative> {
    let draws = draw(input, job, FUTURES_OF_ALTERNATIVE).ok()?;
    let certain = job.market == MarketChoice::OnDemand;
    let cost_p50 = draws.cost_at(if certain { 0.5 } else { input.calibration.p50 });
    let saving = cost - cost_p50;
    let keeps_deadline = job.deadline.map(|deadline| draws.done_within(deadline));
    let in_time = draws.done_within(job.patience()) >= DONE_CHANCE_MIN;
    let worth_it = saving.as_dollars() >= SAVING_MIN * cost.as_dollars();
    let finish_p50 = draws.finish_at(0.5);
    (worth_it && in_time).then_some(Alternative { change, cost_p50, saving, finish_p50, keeps_deadline })
}
