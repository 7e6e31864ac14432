//! The loop: take the next events, let the world change, decide, carry the plan out.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::nodes::{Host, Kind};
use super::outcome::{NodeOutcome, Report, UseSample};
use super::runs::{Parting, Run};
use super::view::middle;
use super::world::{Provider, World};
use crate::autoscale::Launches;
use crate::model::{JobId, MicroUsd, Millis, NodeId, WorkerId};
use crate::policy::{
    Account, Accounts, Action, FairShare, KeepReason, Plan, Policy, RentAgain, RetireReason, Snapshot, decide_with,
};

/// How often a plan is made at one moment before time goes on: starting, moving and giving way take a few.
const PLANS_AT_ONCE_MAX: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Event {
    Submit(usize),
    Ends { job: usize, version: u64 },
    Arrives(NodeId),
    LaunchFails(NodeId),
    Notice { node: NodeId, until: Millis },
    Lost(NodeId),
    Look,
}

/// Runs the world to its end under the policy.
pub fn simulate(world: &World, policy: &dyn Policy) -> Report {
    simulate_watched(world, policy, &mut |_, _| {})
}

/// The same; `watch` is shown every decision and what it was made from.
pub fn simulate_watched(world: &World, policy: &dyn Policy, watch: &mut dyn FnMut(&Snapshot, &Plan)) -> Report {
    let mut engine = Engine::new(world, policy);
    while let Some((at, events)) = engine.next_events() {
        if world.settings.until.is_some_and(|until| at > until) {
            break;
        }
        engine.now = at;
        for event in events {
            engine.happen(event);
        }
        engine.decide(watch);
        if engine.runs.iter().all(|run| run.outcome.ended.is_some()) {
            break;
        }
    }
    engine.report()
}

pub(super) struct Engine<'a> {
    pub(super) world: &'a World,
    policy: &'a dyn Policy,
    pub(super) now: Millis,
    rng: ChaCha8Rng,
    events: BTreeMap<(Millis, u64), Event>,
    next: u64,
    pub(super) runs: Vec<Run>,
    /// Submitted and not ended, by index.
    pub(super) live: BTreeSet<usize>,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    gone: Vec<NodeOutcome>,
    pub(super) gone_cost: MicroUsd,
    pub(super) launches: Vec<Launches>,
    requested: BTreeMap<NodeId, Millis>,
    /// Interruptions and node time of each provider.
    pub(super) observed: Vec<(u64, Millis)>,
    pub(super) accounts: Accounts,
    pub(super) timeline: Vec<UseSample>,
    pub(super) rounds: u64,
    next_node: u64,
    next_worker: u64,
    looks: BTreeSet<Millis>,
}

impl<'a> Engine<'a> {
    fn new(world: &'a World, policy: &'a dyn Policy) -> Self {
        let jobs = world.jobs.iter().enumerate();
        let mut engine = Self {
            world,
            policy,
            now: Millis::ZERO,
            rng: ChaCha8Rng::seed_from_u64(world.settings.seed),
            events: BTreeMap::new(),
            next: 0,
            runs: jobs.map(|(at, job)| Run::new(JobId::new(at as u64 + 1), job.clone())).collect(),
            live: BTreeSet::new(),
            hosts: BTreeMap::new(),
            gone: Vec::new(),
            gone_cost: MicroUsd::ZERO,
            launches: vec![Launches::default(); world.providers.len()],
            requested: BTreeMap::new(),
            observed: vec![(0, Millis::ZERO); world.providers.len()],
            accounts: Accounts::default(),
            timeline: Vec::new(),
            rounds: 0,
            next_node: 0,
            next_worker: 0,
            looks: BTreeSet::new(),
        };
        for (at, job) in world.jobs.iter().enumerate() {
            engine.at(job.submitted, Event::Submit(at));
        }
        for node in &world.nodes {
            let kind =
                Kind { offer: "fixed", size: node.size, gpus: &node.gpus, market: node.market, price: node.price };
            engine.next_node += 1;
            let id = NodeId::new(engine.next_node);
            engine.hosts.insert(id, Host::fixed(id, &kind));
        }
        engine
    }

    fn at(&mut self, time: Millis, event: Event) {
        self.next += 1;
        self.events.insert((time.max(self.now), self.next), event);
    }

    /// The events of the next moment at which something happens; with rounds, of everything until the next round.
    fn next_events(&mut self) -> Option<(Millis, Vec<Event>)> {
        let first = self.events.keys().next()?.0;
        let round = self.world.settings.round.get();
        let at = if round == 0 { first } else { Millis::new(first.get().div_ceil(round).saturating_mul(round)) };
        let later = self.events.split_off(&(Millis::new(at.get().saturating_add(1)), 0));
        let now = std::mem::replace(&mut self.events, later);
        Some((at, now.into_values().collect()))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit(job) => {
                self.live.insert(job);
            }
            Event::Ends { job, version } => self.end_job(job, version),
            Event::Arrives(node) => self.arrive(node),
            Event::LaunchFails(node) => self.launch_failed(node),
            Event::Notice { node, until } => {
                self.count(node);
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.supply.notice_until = Some(until);
                }
            }
            Event::Lost(node) => self.lose(node),
            Event::Look => {
                self.looks.remove(&self.now);
            }
        }
    }

    fn end_job(&mut self, job: usize, version: u64) {
        let (now, run) = (self.now, &mut self.runs[job]);
        if run.version != version || run.outcome.ended.is_some() {
            return;
        }
        run.advance(now);
        if !run.is_over() {
            self.expect_end(job);
            return;
        }
        run.outcome.ended = Some(now);
        let (id, placed) = (run.id, std::mem::take(&mut run.placed));
        self.live.remove(&job);
        for placed in placed {
            self.count(placed.node);
            if let Some(host) = self.hosts.get_mut(&placed.node) {
                host.leave(id, now);
            }
        }
    }

    fn arrive(&mut self, node: NodeId) {
        self.count(node);
        let Some(host) = self.hosts.get_mut(&node) else { return };
        host.arrive(self.now);
        let Some(provider) = host.provider else { return };
        self.launches[provider] = self.launches[provider].succeeded();
        let Provider { interruptions_per_1000_h: rate, notice, .. } = self.world.providers[provider];
        if rate > 0 {
            let draw: f64 = self.rng.random();
            let hours = -(1.0 - draw).ln() * 1_000.0 / f64::from(rate);
            let lost = self.now + Millis::new((hours * 3_600_000.0) as u64);
            let told = Millis::new(lost.get().saturating_sub(notice.get()));
            self.at(told, Event::Notice { node, until: lost });
            self.at(lost, Event::Lost(node));
        }
    }

    fn launch_failed(&mut self, node: NodeId) {
        let requested = self.requested.get(&node).copied().unwrap_or_default();
        if let Some(provider) = self.hosts.get(&node).and_then(|host| host.provider) {
            self.launches[provider] = self.launches[provider].failed(requested, self.now);
        }
        self.close(node, true);
    }

    fn lose(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get(&node) else { return };
        if let Some(provider) = host.provider {
            self.observed[provider].0 += 1;
        }
        for job in host.jobs.clone() {
            let at = job_index(job);
            let workers = self.runs[at].placed.iter().filter(|placed| placed.node == node).map(|placed| placed.worker);
            for worker in workers.collect::<Vec<_>>() {
                self.part(at, worker, Parting::Lost);
            }
        }
        self.close(node, true);
    }

    fn decide(&mut self, watch: &mut dyn FnMut(&Snapshot, &Plan)) {
        for _ in 0..PLANS_AT_ONCE_MAX {
            for &job in &self.live {
                self.runs[job].advance(self.now);
            }
            let snapshot = self.snapshot();
            let plan = decide_with(self.policy, &snapshot);
            watch(&snapshot, &plan);
            self.rounds += 1;
            self.look_again(&plan);
            if plan.actions.is_empty() {
                break;
            }
            self.carry_out(&plan);
        }
        self.sample();
    }

    fn carry_out(&mut self, plan: &Plan) {
        for action in &plan.actions {
            match action {
                Action::Acquire { job, offer, .. } => self.acquire(*job, offer),
                Action::Start { job, node, .. } => self.start(*job, *node),
                Action::Retire { job, worker, reason } => {
                    let how = match reason {
                        RetireReason::Preempted(_) => Parting::Lost,
                        _ => Parting::Saved,
                    };
                    self.part(job_index(*job), *worker, how);
                }
                Action::Release { node, .. } => self.close(*node, false),
            }
        }
    }

    fn acquire(&mut self, job: JobId, offer: &str) {
        let world = self.world;
        let Some((at, provider)) = world.providers.iter().enumerate().find(|(_, one)| one.name == offer) else {
            return;
        };
        let kind =
            Kind { offer, size: provider.size, gpus: &provider.gpus, market: provider.market, price: provider.price };
        self.next_node += 1;
        let node = NodeId::new(self.next_node);
        let (shortest, longest) = provider.boot;
        let boot = Millis::new(self.rng.random_range(shortest.get()..=longest.get().max(shortest.get())));
        let again = RentAgain { boot: middle(provider), billing_min: provider.billing_min };
        self.hosts.insert(node, Host::rented(node, &kind, at, job, again, self.now));
        self.requested.insert(node, self.now);
        let fails = self.rng.random_range(0..1_000) < provider.failing_permille;
        self.at(self.now + boot, if fails { Event::LaunchFails(node) } else { Event::Arrives(node) });
    }

    fn start(&mut self, job: JobId, node: NodeId) {
        self.count(node);
        let Some(host) = self.hosts.get_mut(&node) else { return };
        host.take(job);
        self.next_worker += 1;
        let at = job_index(job);
        self.runs[at].join(WorkerId::new(self.next_worker), node, self.now);
        self.expect_end(at);
    }

    fn part(&mut self, job: usize, worker: WorkerId, how: Parting) {
        let run = &mut self.runs[job];
        let Some(node) = run.placed.iter().find(|placed| placed.worker == worker).map(|placed| placed.node) else {
            return;
        };
        let id = run.id;
        run.part(worker, how, self.now);
        self.count(node);
        if let Some(host) = self.hosts.get_mut(&node) {
            host.leave(id, self.now);
        }
        self.expect_end(job);
    }

    fn expect_end(&mut self, job: usize) {
        let version = self.runs[job].version;
        if let Some(end) = self.runs[job].end(self.now) {
            self.at(end, Event::Ends { job, version });
        }
    }

    /// Counts a node's time and charges it to its jobs and their projects.
    fn count(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        for (job, cost) in host.count(self.now) {
            let run = &mut self.runs[job_index(job)];
            run.outcome.cost += cost;
            let new = Account { shares: 1, used: MicroUsd::ZERO, at: self.now };
            let account = self.accounts.projects.entry(run.job.project.clone()).or_insert(new);
            *account = FairShare::default().charged(account, self.now, cost);
        }
    }

    fn close(&mut self, node: NodeId, lost: bool) {
        self.count(node);
        let Some(host) = self.hosts.remove(&node) else { return };
        if let Some(provider) = host.provider {
            let outcome = &host.outcome;
            let up = outcome.busy + outcome.idle + outcome.leaving;
            self.observed[provider].1 = self.observed[provider].1 + up;
        }
        let outcome = host.close(self.now, lost);
        self.gone_cost += outcome.cost;
        self.gone.push(outcome);
    }

    /// Time alone may change the next decision: idle nodes go back, back-offs end.
    fn look_again(&mut self, plan: &Plan) {
        // A node that is always there never goes back.
        let rented = |node: &NodeId| self.hosts.get(node).is_some_and(|host| host.provider.is_some());
        let idle = plan.kept.iter().filter(|(node, _)| rented(node)).filter_map(|(_, reason)| match reason {
            KeepReason::IdleUntil(until) | KeepReason::BreakEven { until, .. } => Some(*until),
            _ => None,
        });
        let held = self.launches.iter().filter_map(|launches| launches.hold_until());
        let never = Millis::new(u64::MAX);
        let next = idle.chain(held).filter(|&until| until > self.now && until < never).min();
        if let Some(next) = next
            && self.looks.insert(next)
        {
            self.at(next, Event::Look);
        }
    }

    fn report(mut self) -> Report {
        let last = self.in_use();
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        for node in nodes {
            self.close(node, false);
        }
        self.sample_end(UseSample { cost: self.gone_cost, ..last });
        Report {
            jobs: self.runs.into_iter().map(|run| run.outcome).collect(),
            nodes: self.gone,
            timeline: self.timeline,
            rounds: self.rounds,
            end: self.now,
        }
    }
}

fn job_index(job: JobId) -> usize {
    // Ids are handed out above as index + 1, and there are as many as fit in memory.
    (job.number() - 1) as usize
}
