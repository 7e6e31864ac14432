//! One job's run through a window under a policy.
//!
//! Each tick: a spot instance whose zone has no capacity is taken away; the policy is asked until it settles; what is
//! then held is charged for the whole tick and works for what is left of it after its restart. At most one instance is
//! held, by construction.

use super::window::{JobTerms, Visibility, Window};
use crate::model::{Market, MicroUsd, Millis};
use crate::policy::deadline::{Action, DeadlinePolicy, Held, Reason, Sighting, SpotSeen, View, ZoneView};

/// How a run went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Everything charged: instances, moves and probes.
    pub cost: MicroUsd,
    /// The end of the tick in which the work was done, from the start; none if the recording ended first.
    pub finished_at: Option<Millis>,
    /// Whether it was not done by the deadline.
    pub missed: bool,
    /// Spot instances taken away.
    pub preemptions: u32,
    /// Launches in another zone than the one with the checkpoint.
    pub moves: u32,
    /// Instances started.
    pub launches: u32,
    /// Probes that were charged.
    pub probes: u32,
    /// Time held on spot.
    pub on_spot: Millis,
    /// Time held on demand.
    pub on_demand: Millis,
    /// Time without an instance.
    pub idle: Millis,
}

/// What happened in one tick, for logs and tests.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The start of the tick, from the start of the run.
    pub at: Millis,
    /// What was held.
    pub held: Option<Held>,
    /// Why.
    pub reason: Reason,
    /// The work left at the end of the tick.
    pub work_left: Millis,
    /// What the tick cost, with moves and probes.
    pub cost: MicroUsd,
}

/// Runs `terms` through `window` from its start under `policy`, which must be fresh.
pub fn simulate(terms: JobTerms, window: &Window<'_>, policy: &mut dyn DeadlinePolicy) -> Outcome {
    simulate_logged(terms, window, policy, |_| ())
}

/// As [`simulate`], and shows each tick to `log`.
pub fn simulate_logged(
    terms: JobTerms,
    window: &Window<'_>,
    policy: &mut dyn DeadlinePolicy,
    mut log: impl FnMut(&Step),
) -> Outcome {
    let mut run = Run::new(terms, window);
    while run.work_left > Millis::ZERO && run.tick < window.ticks() {
        let step = run.step(policy);
        log(&step);
    }
    let done = run.work_left == Millis::ZERO;
    run.outcome.finished_at = done.then(|| run.now());
    run.outcome.missed = !done || run.now() > terms.deadline;
    run.outcome
}

struct Run<'w> {
    terms: JobTerms,
    window: &'w Window<'w>,
    tick: usize,
    work_left: Millis,
    warmup_left: Millis,
    held: Option<Held>,
    checkpoint_in: Option<usize>,
    zones: Vec<ZoneView>,
    outcome: Outcome,
}

impl<'w> Run<'w> {
    fn new(terms: JobTerms, window: &'w Window<'w>) -> Self {
        Self {
            terms,
            window,
            tick: 0,
            work_left: terms.work,
            warmup_left: Millis::ZERO,
            held: None,
            checkpoint_in: None,
            zones: Vec::with_capacity(window.zones()),
            outcome: Outcome::default(),
        }
    }

    fn now(&self) -> Millis {
        Millis::new(self.tick as u64 * self.window.tick().get())
    }

    fn step(&mut self, policy: &mut dyn DeadlinePolicy) -> Step {
        let (at, before) = (self.now(), self.outcome.cost);
        self.preempt(policy);
        self.show(policy);
        let reason = self.settle(policy);
        self.work_and_pay();
        self.tick += 1;
        let cost = self.outcome.cost - before;
        Step { at, held: self.held, reason, work_left: self.work_left, cost }
    }

    /// Takes away a spot instance whose zone has no capacity in this tick.
    fn preempt(&mut self, policy: &mut dyn DeadlinePolicy) {
        let Some(Held { zone, market: Market::Spot }) = self.held else { return };
        let available = self.window.available(zone, self.tick);
        if !available {
            self.held = None;
            self.warmup_left = Millis::ZERO;
            self.outcome.preemptions += 1;
        }
        if matches!(self.window.rules().visibility, Visibility::ByTrying { .. }) {
            policy.observe(Sighting { at: self.now(), zone, available });
        }
    }

    /// What the zones show at the start of the tick.
    fn show(&mut self, policy: &mut dyn DeadlinePolicy) {
        self.zones.clear();
        for zone in 0..self.window.zones() {
            let view = self.window.zone_view(zone, self.tick, self.checkpoint_in);
            if view.seen != SpotSeen::Unknown {
                policy.observe(Sighting { at: self.now(), zone, available: view.seen == SpotSeen::Available });
            }
            self.zones.push(view);
        }
        if let Some(Held { zone, market: Market::Spot }) = self.held {
            self.zones[zone].seen = SpotSeen::Available;
        }
    }

    /// Asks the policy until it settles on what to hold. A zone is tried and probed at most once a tick, so this ends;
    /// a policy that insists on a zone without capacity ends up with nothing.
    fn settle(&mut self, policy: &mut dyn DeadlinePolicy) -> Reason {
        loop {
            let decision = policy.decide(&self.view());
            match decision.action {
                Action::Wait => self.held = None,
                Action::Run(wanted) if self.held == Some(wanted) => {}
                Action::Run(wanted) if wanted.market == Market::OnDemand => self.launch(wanted),
                Action::Run(wanted) => {
                    let known = self.zones[wanted.zone].seen;
                    if self.see(wanted.zone, policy) {
                        self.launch(wanted);
                    } else if known == SpotSeen::Gone {
                        self.held = None;
                    } else {
                        continue;
                    }
                }
                Action::Probe { zone } if self.zones[zone].seen == SpotSeen::Unknown => {
                    if self.see(zone, policy) {
                        self.charge_probe(zone);
                    }
                    continue;
                }
                Action::Probe { .. } => self.held = None,
            }
            return decision.reason;
        }
    }

    /// Finds out whether a zone has spot capacity in this tick, and tells the policy what is new.
    fn see(&mut self, zone: usize, policy: &mut dyn DeadlinePolicy) -> bool {
        let available = self.window.available(zone, self.tick);
        if self.zones[zone].seen == SpotSeen::Unknown {
            self.zones[zone].seen = if available { SpotSeen::Available } else { SpotSeen::Gone };
            policy.observe(Sighting { at: self.now(), zone, available });
        }
        available
    }

    fn view(&self) -> View<'_> {
        View {
            now: self.now(),
            deadline: self.terms.deadline,
            work: self.terms.work,
            work_left: self.work_left,
            restart: self.terms.restart,
            warmup_left: self.warmup_left,
            round: self.window.tick(),
            held: self.held,
            checkpoint_in: self.checkpoint_in,
            zones: &self.zones,
        }
    }

    fn launch(&mut self, wanted: Held) {
        let moving = self.window.move_cost(self.checkpoint_in, wanted.zone);
        self.outcome.moves += u32::from(self.checkpoint_in.is_some_and(|from| from != wanted.zone));
        self.outcome.cost += moving.money;
        self.outcome.launches += 1;
        self.warmup_left = self.terms.restart + moving.time;
        self.held = Some(wanted);
    }

    fn charge_probe(&mut self, zone: usize) {
        if let Visibility::ByTrying { probe } = self.window.rules().visibility {
            self.outcome.cost += self.window.spot_price(zone, self.tick).cost_of(probe);
            self.outcome.probes += 1;
        }
    }

    /// Charges the tick and does its work.
    fn work_and_pay(&mut self) {
        let tick = self.window.tick();
        let Some(held) = self.held else {
            self.outcome.idle = self.outcome.idle + tick;
            return;
        };
        let useful = tick.since(self.warmup_left);
        self.warmup_left = self.warmup_left.since(tick);
        self.work_left = self.work_left.since(useful);
        self.checkpoint_in = Some(held.zone);
        let (price, time) = match held.market {
            Market::Spot => (self.window.spot_price(held.zone, self.tick), &mut self.outcome.on_spot),
            Market::OnDemand => (self.window.on_demand_price(held.zone), &mut self.outcome.on_demand),
        };
        *time = *time + tick;
        if self.work_left > Millis::ZERO || self.window.rules().last_tick_charged {
            self.outcome.cost += price.cost_of(tick);
        }
    }
}
