//! Planning a job with what was known before it, and paying for it with what then happened.

use neap_scheduler::estimate::{Calibration, Draws, Likeness, MarketHistory, PlanInput, UnsafeSpot, draw, plan, run};
use neap_scheduler::model::{MicroUsd, Millis};
use neap_scheduler::policy::deadline::{Adaptive, DeadlinePolicy};

use crate::jobs::{Job, Market};

/// How many futures each plan is made from, as in `neap plan`.
const FUTURES: usize = 200;

/// From the request for a node to the node.
const BOOT: Millis = Millis::from_secs(120);

/// A cost is certain if the middle half of the drawn costs differs by less than this share: more than the half percent to
/// either side by which every drawn cost is spread.
const CERTAIN: f64 = 0.015;

/// What a plan may know of a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// All that was recorded until the job is submitted, as in production. What is fitted is fitted on the first half.
    UntilSubmitted,
    /// Nothing after the end of the first half, and for fitting nothing after the first quarter.
    FirstHalfOnly,
}

impl Knowledge {
    /// For the report.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::UntilSubmitted => "history until the job is submitted, parameters fitted on the first half",
            Self::FirstHalfOnly => "history and parameters from the first half only",
        }
    }
}

/// A job, its plan and its true cost.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    /// The job.
    pub(crate) job: Job,
    /// The recording, and from when to when the job may run.
    pub(crate) span: (&'static str, u64, u64),
    /// The printed P50.
    pub(crate) p50: MicroUsd,
    /// The printed P95.
    pub(crate) p95: MicroUsd,
    /// What it really cost.
    pub(crate) truth: MicroUsd,
    /// Where that lies among the drawn costs.
    pub(crate) place: f64,
    /// The error of the drawn distribution, as a share of the true cost.
    pub(crate) crps: f64,
    /// Whether the plan says what it will cost, rather than a range.
    pub(crate) certain: bool,
}

/// Plans a job with each likeness, and pays for it. The policy keeps what it computes from one run to the next.
pub(crate) fn score(
    markets: &[Market],
    number: usize,
    job: &Job,
    knowledge: Knowledge,
    fitted: &[(Likeness, Calibration)],
) -> Vec<Scored> {
    let policy = Adaptive::new();
    let market = &markets[job.market];
    let known = known_until(market, job.start, knowledge);
    let history = MarketHistory::new(vec![&market.zone], known, job.job.workers);
    let truth = pay(market, job, &policy);
    let one = |&(likeness, calibration): &(Likeness, Calibration)| {
        let seed = number as u64;
        let input =
            PlanInput { job: &job.job, history: &history, boot: BOOT, policy: &policy, likeness, calibration, seed };
        let draws = draw(&input, &job.job, FUTURES).expect("every recording has a past");
        Scored {
            job: job.clone(),
            span: span(market, job),
            p50: draws.cost_at(calibration.p50),
            p95: draws.cost_at(calibration.p95),
            truth,
            place: draws.place_of(truth),
            crps: crps(&draws, truth),
            certain: certain(&draws),
        }
    };
    fitted.iter().map(one).collect()
}

/// A whole plan with its alternatives, for its time.
pub(crate) fn whole_plan(market: &Market, job: &Job, likeness: Likeness, calibration: Calibration) {
    let history = MarketHistory::new(vec![&market.zone], job.start, job.job.workers);
    let policy = Adaptive::new();
    let input =
        PlanInput { job: &job.job, history: &history, boot: BOOT, policy: &policy, likeness, calibration, seed: 0 };
    std::hint::black_box(plan(&input, UnsafeSpot::Refuse)).expect("every recording has a past");
}

/// The tick before which the plan knows the market.
fn known_until(market: &Market, start: usize, knowledge: Knowledge) -> usize {
    match knowledge {
        Knowledge::UntilSubmitted => start,
        Knowledge::FirstHalfOnly if start < market.half() => market.half() / 2,
        Knowledge::FirstHalfOnly => market.half(),
    }
}

/// What the job costs in the window in which it really runs.
fn pay(market: &Market, job: &Job, policy: &dyn DeadlinePolicy) -> MicroUsd {
    let all = MarketHistory::new(vec![&market.zone], market.zone.ticks(), job.job.workers);
    let window: Vec<u32> = (job.start..job.start + job.window).map(|tick| tick as u32).collect();
    let outcome = run(&job.job, BOOT, &all, &window, policy.fresh().as_mut());
    outcome.cost()
}

fn span(market: &Market, job: &Job) -> (&'static str, u64, u64) {
    let tick = market.zone.tick.get();
    (market.file, job.start as u64 * tick, (job.start + job.window) as u64 * tick)
}

fn certain(draws: &Draws) -> bool {
    let [low, high] = [0.25, 0.75].map(|place| draws.cost_at(place).as_dollars());
    high - low < CERTAIN * high
}

/// The continuous ranked probability score by its quantiles: twice the mean pinball loss (Gneiting and Raftery,
/// "Strictly proper scoring rules, prediction, and estimation", 2007).
fn crps(draws: &Draws, truth: MicroUsd) -> f64 {
    let truth = truth.as_dollars();
    let loss = |share: f64| {
        let off = truth - draws.cost_at(share).as_dollars();
        if off >= 0.0 { share * off } else { (share - 1.0) * off }
    };
    let shares = (0..50).map(|place| (f64::from(place) + 0.5) / 50.0);
    2.0 * shares.map(loss).sum::<f64>() / 50.0 / truth.max(f64::MIN_POSITIVE)
}
