//! One run of a job through one future, under the policy of production: what it costs, for what, and when it is done.
//!
//! It differs from [`crate::sim::spot::simulate`] in what `plan` must know beside the cost: work that was not saved is lost,
//! a node boots, a price above `max_price` is no offer, several nodes run at once, and each dollar has its cause.

use crate::model::{Market, MicroUsd, MicroUsdPerHour, Millis};
use crate::policy::deadline::{Action, DeadlinePolicy, Held, Sighting, SpotSeen, View, ZoneView};

use super::future::MarketHistory;
use super::job::PlanJob;

/// Why money is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Work on spot nodes that was kept.
    SpotWork,
    /// Work on on-demand nodes that was kept.
    OnDemandWork,
    /// Booting, and restarts from a checkpoint.
    Starts,
    /// Work that preemptions threw away.
    LostWork,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::SpotWork, Self::OnDemandWork, Self::Starts, Self::LostWork];

    /// A few words for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::SpotWork => "work on spot nodes",
            Self::OnDemandWork => "work on on-demand nodes",
            Self::Starts => "booting and restarts",
            Self::LostWork => "work that preemptions threw away",
        }
    }
}

/// How a run went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOutcome {
    /// What it cost, by cause, in the order of [`Cause::ALL`].
    pub by_cause: [MicroUsd; 4],
    /// When it was done, from its start; `None` if not within the future that was looked at.
    pub finished: Option<Millis>,
    /// Spot nodes that were taken away, as gangs.
    pub preemptions: u32,
}

impl RunOutcome {
    /// What it cost.
    pub fn cost(&self) -> MicroUsd {
        self.by_cause.iter().copied().sum()
    }
}

/// Runs `job` through the recorded ticks that `future` names.
pub fn run(
    job: &PlanJob,
    boot: Millis,
    history: &MarketHistory<'_>,
    future: &[u32],
    policy: &mut dyn DeadlinePolicy,
) -> RunOutcome {
    let mut run = Run {
        job,
        start: job.restart + boot,
        history,
        now: Millis::ZERO,
        at: 0,
        work_left: job.work,
        unsaved: Millis::ZERO,
        unsaved_cost: [MicroUsd::ZERO; 2],
        warmup_left: Millis::ZERO,
        held: None,
        last_in: None,
        zones: Vec::with_capacity(history.zones()),
        outcome: RunOutcome::default(),
    };
    for &at in future {
        run.at = at as usize;
        run.step(policy);
        if run.work_left == Millis::ZERO {
            run.outcome.finished = Some(run.now);
            break;
        }
    }
    run.save();
    run.outcome
}

struct Run<'r> {
    job: &'r PlanJob,
    start: Millis,
    history: &'r MarketHistory<'r>,
    now: Millis,
    /// The recorded tick that stands for the present one.
    at: usize,
    work_left: Millis,
    unsaved: Millis,
    /// What the unsaved work cost, on spot and on demand.
    unsaved_cost: [MicroUsd; 2],
    warmup_left: Millis,
    held: Option<Held>,
    last_in: Option<usize>,
    zones: Vec<ZoneView>,
    outcome: RunOutcome,
}

impl Run<'_> {
    fn step(&mut self, policy: &mut dyn DeadlinePolicy) {
        self.look(policy);
        if let Some(Held { zone, market: Market::Spot }) = self.held
            && self.zones[zone].seen != SpotSeen::Available
        {
            self.outcome.preemptions += 1;
            self.stop();
            self.lose();
        }
        match policy.decide(&self.view()).action {
            Action::Run(wanted) if self.held == Some(wanted) => {}
            Action::Run(wanted) if self.can_launch(wanted) => {
                self.give_back();
                self.warmup_left = self.start;
                self.held = Some(wanted);
            }
            // All zones are shown, so there is nothing to try or to probe.
            Action::Run(_) | Action::Wait | Action::Probe { .. } => self.give_back(),
        }
        self.work_and_pay();
        self.now = self.now + self.history.tick();
    }

    fn look(&mut self, policy: &mut dyn DeadlinePolicy) {
        self.zones.clear();
        for zone in 0..self.history.zones() {
            let spot = self.history.spot(zone, self.at);
            let affordable = self.job.max_price.is_none_or(|limit| spot <= limit);
            let available = affordable && self.history.available(zone, self.at);
            policy.observe(Sighting { at: self.now, zone, available });
            self.zones.push(ZoneView {
                on_demand: self.history.on_demand(zone),
                spot,
                seen: if available { SpotSeen::Available } else { SpotSeen::Gone },
                move_time: Millis::ZERO,
                move_cost: MicroUsd::ZERO,
            });
        }
    }

    fn view(&self) -> View<'_> {
        View {
            now: self.now,
            deadline: self.job.patience(),
            work: self.job.work,
            work_left: self.work_left,
            restart: self.start,
            warmup_left: self.warmup_left,
            round: self.history.tick(),
            held: self.held,
            checkpoint_in: self.last_in,
            zones: &self.zones,
        }
    }

    fn can_launch(&self, wanted: Held) -> bool {
        match wanted.market {
            Market::Spot => self.zones[wanted.zone].seen == SpotSeen::Available,
            Market::OnDemand => self.job.max_price.is_none_or(|limit| self.zones[wanted.zone].on_demand <= limit),
        }
    }

    /// Ends what is held in good order: a job that can save its work does so first.
    fn give_back(&mut self) {
        if self.held.is_some() {
            if self.job.checkpoint.is_some() { self.save() } else { self.lose() }
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.held = None;
        self.warmup_left = Millis::ZERO;
    }

    fn save(&mut self) {
        self.unsaved = Millis::ZERO;
        for (place, cost) in std::mem::take(&mut self.unsaved_cost).into_iter().enumerate() {
            self.outcome.by_cause[place] += cost;
        }
    }

    fn lose(&mut self) {
        self.work_left = self.work_left + self.unsaved;
        self.unsaved = Millis::ZERO;
        let lost = std::mem::take(&mut self.unsaved_cost).into_iter().sum();
        self.outcome.by_cause[Cause::LostWork as usize] += lost;
    }

    /// Charges the tick and does its work. A tick in which a start ends is split between the start and the work.
    fn work_and_pay(&mut self) {
        let Some(held) = self.held else { return };
        let tick = self.history.tick();
        let starting = self.warmup_left.min(tick);
        self.warmup_left = self.warmup_left.since(tick);
        let zone = self.zones[held.zone];
        let (price, place) = match held.market {
            Market::Spot => (zone.spot, Cause::SpotWork as usize),
            Market::OnDemand => (zone.on_demand, Cause::OnDemandWork as usize),
        };
        let price = MicroUsdPerHour::new(price.get() * u64::from(self.job.workers));
        let (whole, start) = (price.cost_of(tick), price.cost_of(starting));
        self.outcome.by_cause[Cause::Starts as usize] += start;
        self.unsaved_cost[place] += whole - start;
        let useful = tick.since(starting).min(self.work_left);
        self.work_left = self.work_left.since(useful);
        self.unsaved = self.unsaved + useful;
        self.last_in = Some(held.zone);
        if self.job.checkpoint.is_some_and(|every| self.unsaved >= every) {
            self.save();
        }
    }
}
