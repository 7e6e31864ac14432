//! Finishing one job by its deadline for the least money, where spot capacity comes and goes.
//!
//! A [`DeadlinePolicy`] is asked once a round, and again in the same round after each attempt that failed: run on spot,
//! run on demand, or wait? One zone whose availability is seen and many zones that answer only when tried are the same
//! question; [`SpotSeen`] tells them apart. A policy sees a [`View`] and the [`Sighting`]s so far, never the future, and
//! every decision has its [`Reason`]. Nothing here rents or stops anything: a caller executes the action.
//!
//! Start at [`DeadlinePolicy::decide`]; [`guard`] is the safety net that no policy here goes without.
//!
//! Source of the problem and of the baselines: Wu et al., "Can't Be Late", NSDI'24; of the many-zone form: SkyNomad,
//! NSDI'27.

mod adaptive;
mod baselines;
mod guard;
mod reason;
mod uniform;

pub use adaptive::Adaptive;
pub use baselines::{Greedy, OnDemandOnly};
pub use guard::{Urgency, cheapest_on_demand, last_moment, urgency};
pub use reason::Reason;
pub use uniform::UniformProgress;

use crate::model::{Market, MicroUsd, MicroUsdPerHour, Millis};

/// Chooses where one job runs next. The same object serves production, `plan` and the simulator.
///
/// It may keep what it has seen, so one object serves one job; [`DeadlinePolicy::fresh`] makes the next one.
pub trait DeadlinePolicy: Send + Sync {
    /// A short name for reports.
    fn name(&self) -> &'static str;

    /// The same policy with the same settings, before it has seen anything.
    fn fresh(&self) -> Box<dyn DeadlinePolicy>;

    /// Takes in that a zone was seen to have spot capacity or not. Comes in order of time.
    fn observe(&mut self, sighting: Sighting);

    /// What to do for the coming round.
    fn decide(&mut self, view: &View<'_>) -> Decision;
}

/// How often a policy is asked about a job with this much work in all: 64 times while it runs without a break, but not
/// more than once a second, which is how often workers report, nor less than every ten minutes, in which a market may
/// have come and gone.
pub fn round_for(work: Millis) -> Millis {
    Millis::new((work.get() / 64).clamp(1_000, 600_000))
}

/// Where the job stands and what could be rented, as known at the start of a round.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The time.
    pub now: Millis,
    /// When the job must be done, on the same clock.
    pub deadline: Millis,
    /// All the work of the job, as time on one instance.
    pub work: Millis,
    /// What is left of it.
    pub work_left: Millis,
    /// How long a new instance is held and paid before it makes progress.
    pub restart: Millis,
    /// What is left of that for the instance held now.
    pub warmup_left: Millis,
    /// How long until the policy is asked again; what is held is paid for the whole round.
    pub round: Millis,
    /// The instance held now. A preempted one is not held any more.
    pub held: Option<Held>,
    /// The zone with the newest checkpoint: where an instance was last held.
    pub checkpoint_in: Option<usize>,
    /// What the zones offer. Never empty.
    pub zones: &'a [ZoneView],
}

/// What one zone offers in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneView {
    /// The price on demand, where it is always to be had.
    pub on_demand: MicroUsdPerHour,
    /// The price of spot.
    pub spot: MicroUsdPerHour,
    /// Whether spot is to be had.
    pub seen: SpotSeen,
    /// What a move of the job to here adds to the restart.
    pub move_time: Millis,
    /// What a move of the job to here costs, once.
    pub move_cost: MicroUsd,
}

/// What is known about spot capacity in a zone in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpotSeen {
    /// It is there.
    Available,
    /// It is not.
    Gone,
    /// Only a launch or a probe would tell.
    Unknown,
}

/// An instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// In this zone.
    pub zone: usize,
    /// Rented this way.
    pub market: Market,
}

/// That a zone had spot capacity at an instant, or had none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at: Millis,
    /// Where.
    pub zone: usize,
    /// Whether there was any.
    pub available: bool,
}

/// What to do for one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Hold this instance: keep it if it is held, else launch it and end the one that was held. A launch of spot can
    /// fail; then the policy is asked again.
    Run(Held),
    /// Hold nothing.
    Wait,
    /// Find out whether a zone has spot capacity, for the price of the shortest rent. The policy is asked again.
    Probe {
        /// The zone.
        zone: usize,
    },
}

/// An action and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

impl Held {
    /// A spot instance in `zone`.
    pub const fn spot(zone: usize) -> Self {
        Self { zone, market: Market::Spot }
    }

    /// An on-demand instance in `zone`.
    pub const fn on_demand(zone: usize) -> Self {
        Self { zone, market: Market::OnDemand }
    }
}

impl Decision {
    /// Hold `instance` because of `reason`.
    pub const fn run(instance: Held, reason: Reason) -> Self {
        Self { action: Action::Run(instance), reason }
    }

    /// Hold nothing because of `reason`.
    pub const fn wait(reason: Reason) -> Self {
        Self { action: Action::Wait, reason }
    }
}

impl View<'_> {
    /// Time until the deadline.
    pub fn time_left(&self) -> Millis {
        self.deadline.since(self.now)
    }

    /// The zone of the spot instance held, if one is.
    pub fn spot_held(&self) -> Option<usize> {
        self.held.filter(|held| held.market == Market::Spot).map(|held| held.zone)
    }

    /// The zone of the on-demand instance held, if one is.
    pub fn on_demand_held(&self) -> Option<usize> {
        self.held.filter(|held| held.market == Market::OnDemand).map(|held| held.zone)
    }

    /// The time before an instance launched now in `zone` makes progress.
    pub fn launch_time(&self, zone: usize) -> Millis {
        self.restart + self.zones[zone].move_time
    }

    /// The cheapest zone where spot is known to be there.
    pub fn cheapest_spot_seen(&self) -> Option<usize> {
        let seen = |zone: &usize| self.zones[*zone].seen == SpotSeen::Available;
        (0..self.zones.len()).filter(seen).min_by_key(|&zone| self.zones[zone].spot)
    }
}
