//! A random world for budgets: nodes that cost money whether or not anybody knows, whose deletes are slow, whose prices
//! jump, and whose providers do not always answer. The truth about money is kept here, apart from the budgets.

use std::collections::BTreeMap;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::NodeId;
use crate::pricing::NodeMeter;

/// 2026-01-31 20:00 UTC: four hours before a month ends.
const START: Millis = Millis::new(1_769_889_600_000);

/// What goes wrong in a world, beyond what always may.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// The controller forgets that a delete takes time: the mistake that reservations are there to prevent.
    pub(super) forgets_deletes: bool,
    /// The controller reserves at today's price instead of the ceiling.
    pub(super) forgets_price_jumps: bool,
    /// A controller that takes over does not look at what was spent on nodes that are gone.
    pub(super) forgets_the_past: bool,
}

#[derive(Debug)]
struct TrueNode {
    path: ScopePath,
    /// What was booked of it in earlier months.
    before: MicroUsd,
    /// What was booked of it in all.
    booked: MicroUsd,
    /// Whether the provider really started it: the reply to the request may have been lost either way.
    exists: bool,
    spent: MicroUsd,
    price: MicroUsdPerHour,
    /// The ceilings of the quotes that still bind the price, the oldest first.
    ceilings: Vec<u64>,
    asked_back: bool,
    gone_at: Option<Millis>,
    reply_due: Option<Millis>,
}

pub(super) struct World {
    rng: ChaCha8Rng,
    faults: Faults,
    now: Millis,
    tick: Millis,
    delete_within: Millis,
    budgets: Budgets,
    journal: Vec<BudgetEvent>,
    sent: Vec<BudgetCommand>,
    nodes: BTreeMap<ReservationId, TrueNode>,
    /// What was spent on nodes that are gone: who paid, in earlier months and in this one.
    gone: Vec<(ScopePath, MicroUsd, MicroUsd)>,
    month: Month,
    limits: BTreeMap<Scope, Limit>,
    /// What was spent and set aside, in all and in the month, and the rate, when a scope's limit was set or everything was
    /// taken over: above the limit it may only fall.
    committed: BTreeMap<Scope, (MicroUsd, MicroUsd, MicroUsdPerHour)>,
    next_id: u64,
    warnings: BTreeMap<(Scope, LimitKind, Month), u32>,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tick = Millis::from_secs(rng.random_range(30..900));
        let delete_within = Millis::from_secs(rng.random_range(1..3_600));
        Self {
            rng,
            faults,
            now: START,
            tick,
            delete_within,
            budgets: Budgets::default(),
            journal: Vec::new(),
            sent: Vec::new(),
            nodes: BTreeMap::new(),
            gone: Vec::new(),
            month: Month::of(START),
            limits: BTreeMap::new(),
            committed: BTreeMap::new(),
            next_id: 0,
            warnings: BTreeMap::new(),
        }
    }

    /// Runs `ticks` ticks, then gives everything back. Fails with what went wrong.
    pub(super) fn run(&mut self, ticks: u32) -> Result<(), String> {
        self.set_limits()?;
        for _ in 0..ticks {
            self.step(true)?;
        }
        while !self.nodes.is_empty() {
            self.step(false)?;
        }
        let left = self.budgets.account(&Scope::Organisation).map_or(MicroUsd::ZERO, Account::reserved);
        if left == MicroUsd::ZERO { Ok(()) } else { Err(format!("{left} stays reserved for ever")) }
    }

    fn step(&mut self, rents: bool) -> Result<(), String> {
        self.turn_the_month();
        if rents && self.rng.random_bool(0.5) {
            self.rent()?;
        }
        if self.rng.random_bool(0.05) {
            self.set_limits()?;
        }
        let ids: Vec<ReservationId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.look_after(id, rents)?;
        }
        if self.rng.random_bool(0.1) {
            self.restart()?;
        }
        if self.rng.random_bool(0.1) {
            self.take_over()?;
        }
        self.repeat_something_old();
        self.spend_one_tick();
        self.check()
    }

    fn turn_the_month(&mut self) {
        let month = Month::of(self.now);
        if month != self.month {
            self.month = month;
            for node in self.nodes.values_mut() {
                node.before = node.booked;
            }
            for (_, before, of_month) in &mut self.gone {
                (*before, *of_month) = (*before + *of_month, MicroUsd::ZERO);
            }
        }
    }

    /// New limits for random scopes, some of them below what is spent and set aside.
    fn set_limits(&mut self) -> Result<(), String> {
        for scope in [Scope::Organisation, Scope::Project("p0".to_owned()), Scope::Job(JobId::new(1))] {
            let mut part = |max: u64| self.rng.random_bool(0.7).then(|| self.rng.random_range(1..max));
            let (total, per_month, per_hour) = (part(40_000_000), part(30_000_000), part(20_000_000));
            let limit = Limit {
                total: total.map(MicroUsd::new),
                per_month: per_month.map(MicroUsd::new),
                per_hour: per_hour.map(MicroUsdPerHour::new),
                ..Limit::default()
            };
            self.warnings.retain(|(warned, ..), _| *warned != scope);
            self.limits.insert(scope.clone(), limit);
            self.send(BudgetCommand::SetLimit { scope: scope.clone(), limit }).map_err(|error| error.to_string())?;
            self.note_committed(&scope);
        }
        Ok(())
    }

    fn note_committed(&mut self, scope: &Scope) {
        let committed = self.committed(scope);
        self.committed.insert(scope.clone(), committed);
    }

    fn committed(&self, scope: &Scope) -> (MicroUsd, MicroUsd, MicroUsdPerHour) {
        let account = self.budgets.account(scope).cloned().unwrap_or_default();
        let of_month = account.settled_in(Month::of(self.now)) + account.reserved();
        (account.settled() + account.reserved(), of_month, account.rate())
    }

    /// Asks for a node: money first, then the provider, whose reply may be lost whether or not it did it.
    fn rent(&mut self) -> Result<(), String> {
        self.next_id += 1;
        let id = ReservationId(self.next_id);
        let price = self.rng.random_range(10_000..6_000_000);
        let path = ScopePath {
            project: format!("p{}", self.rng.random_range(0..2)),
            sweep: self.rng.random_bool(0.3).then(|| JobId::new(9)),
            job: self.rng.random_bool(0.9).then(|| JobId::new(self.rng.random_range(1..4))),
        };
        let ceiling = price * self.rng.random_range(1..4);
        let (granted, rate) = self.grant(MicroUsd::ZERO, price, ceiling);
        match self.send(BudgetCommand::Reserve { id, path: path.clone(), granted, rate }) {
            Ok(()) => {}
            Err(BudgetError::Refused(_)) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        let exists = self.rng.random_bool(0.9);
        let reply_due = self.rng.random_bool(0.2).then(|| self.now + self.ticks(1..5));
        let node = TrueNode {
            path,
            before: MicroUsd::ZERO,
            booked: MicroUsd::ZERO,
            exists,
            spent: MicroUsd::ZERO,
            price: MicroUsdPerHour::new(price),
            ceilings: vec![ceiling],
            asked_back: false,
            gone_at: (!exists).then_some(self.now),
            reply_due,
        };
        self.nodes.insert(id, node);
        Ok(())
    }

    fn ticks(&mut self, range: std::ops::Range<u64>) -> Millis {
        Millis::new(self.tick.get() * self.rng.random_range(range))
    }

    /// What the controller sets aside. With a fault it makes the mistake that the fault names.
    fn grant(&self, spent: MicroUsd, price: u64, ceiling: u64) -> (MicroUsd, MicroUsdPerHour) {
        let ceiling = MicroUsdPerHour::new(if self.faults.forgets_price_jumps { price } else { ceiling });
        let delete_within = if self.faults.forgets_deletes { Millis::ZERO } else { self.delete_within };
        (spent + Exposure { ceiling, tick: self.tick, delete_within }.worst_case(), ceiling)
    }

    /// One look at one node, as the controller does it before each tick: book, then extend or give back.
    fn look_after(&mut self, id: ReservationId, wanted: bool) -> Result<(), String> {
        let node = &self.nodes[&id];
        let (spent, known_gone) = (node.spent, node.gone_at.is_some_and(|gone| gone <= self.now));
        let silent = node.reply_due.is_some_and(|due| due > self.now);
        if !silent {
            self.send(BudgetCommand::Settle { id, settled: spent }).map_err(|error| error.to_string())?;
            self.nodes.get_mut(&id).expect("the node was found above").booked = spent;
            if known_gone {
                if let Some(node) = self.nodes.remove(&id) {
                    self.gone.push((node.path, node.before, spent - node.before));
                }
                return self.send(BudgetCommand::Release { id }).map_err(|error| error.to_string());
            }
        }
        let keeps = wanted && !self.nodes[&id].asked_back && self.rng.random_bool(0.97);
        if keeps && self.extend(id)? {
            return Ok(());
        }
        self.give_back(id);
        Ok(())
    }

    /// Extends by a new quote; whether it was granted. A provider that does not answer keeps the old quote's word.
    fn extend(&mut self, id: ReservationId) -> Result<bool, String> {
        let factor = self.rng.random_range(1..4);
        let node = &self.nodes[&id];
        let (price, spent) = (node.price.get(), node.spent);
        let (granted, rate) = self.grant(spent, price, price * factor);
        match self.send(BudgetCommand::Extend { id, granted, rate }) {
            Ok(()) => {}
            Err(BudgetError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
        let node = self.nodes.get_mut(&id).expect("the node was found above");
        node.ceilings.push(price * factor);
        Ok(true)
    }

    fn give_back(&mut self, id: ReservationId) {
        let slow = Millis::new(self.rng.random_range(0..=self.delete_within.get()));
        let node = self.nodes.get_mut(&id).expect("the node was found above");
        if !node.asked_back {
            node.asked_back = true;
            node.gone_at = node.gone_at.or(Some(self.now + slow));
        }
    }

    /// The next tick passes: prices move below the ceilings that bind them, and every node that exists costs money.
    fn spend_one_tick(&mut self) {
        let binding = 1 + (self.tick + self.delete_within).get().div_ceil(self.tick.get()) as usize;
        for node in self.nodes.values_mut() {
            let from = node.ceilings.len().saturating_sub(binding);
            let bound = node.ceilings[from..].iter().min().copied().unwrap_or_default();
            node.price = MicroUsdPerHour::new(self.rng.random_range(1..=bound.max(1)));
            let until = node.gone_at.unwrap_or(Millis::new(u64::MAX)).since(self.now).min(self.tick);
            if node.exists {
                let mut meter = NodeMeter::start(NodeId::new(1), node.price, Millis::ZERO);
                let whole = [crate::pricing::Use { category: crate::pricing::Category::Busy, job: None, weight: 1 }];
                let _ = meter.bill(until, &whole);
                node.spent += meter.billed();
            }
        }
        self.now = self.now + self.tick;
    }

    /// Sends a command as a network does: once, or twice because the first reply was lost.
    fn send(&mut self, command: BudgetCommand) -> Result<(), BudgetError> {
        let times = if self.rng.random_bool(0.2) { 2 } else { 1 };
        for _ in 0..times {
            let events = self.budgets.execute(&command, self.now)?;
            self.note(&events);
        }
        self.sent.push(command);
        Ok(())
    }

    /// A command from long ago arrives once more. Limits are set by people who read the reply; they do not arrive twice.
    fn repeat_something_old(&mut self) {
        if self.sent.is_empty() || self.rng.random_bool(0.7) {
            return;
        }
        let command = self.sent[self.rng.random_range(0..self.sent.len())].clone();
        if !matches!(command, BudgetCommand::SetLimit { .. }) {
            let events = self.budgets.execute(&command, self.now);
            assert_eq!(events, Ok(Vec::new()), "{command:?} came twice");
        }
    }

    fn note(&mut self, events: &[BudgetEvent]) {
        let month = Month::of(self.now);
        for event in events {
            if let BudgetEvent::Warned { scope, kind } = event {
                let month = if *kind == LimitKind::Month { month } else { Month::default() };
                *self.warnings.entry((scope.clone(), *kind, month)).or_default() += 1;
            }
        }
        self.journal.extend_from_slice(events);
    }

    /// The controller dies; another reads the journal.
    fn restart(&mut self) -> Result<(), String> {
        let rebuilt = Budgets::replay(&self.journal);
        if rebuilt != self.budgets {
            return Err("the journal gives another state".to_owned());
        }
        self.budgets = rebuilt;
        Ok(())
    }

    /// The controller dies; another knows the bill, the nodes that are there and the limits, and no event.
    fn take_over(&mut self) -> Result<(), String> {
        self.budgets = Budgets::default();
        self.journal.clear();
        self.sent.clear();
        self.warnings.clear();
        let past = Millis::ZERO;
        let gone = if self.faults.forgets_the_past { Vec::new() } else { self.gone.clone() };
        for (path, before, _) in &gone {
            self.book_past(path, *before, past)?;
        }
        let ids: Vec<ReservationId> = self.nodes.keys().copied().collect();
        for id in &ids {
            self.adopt(*id, past)?;
        }
        for (path, _, of_month) in &gone {
            self.book_past(path, *of_month, self.now)?;
        }
        for id in ids {
            self.carry_out(&BudgetCommand::Settle { id, settled: self.nodes[&id].booked }, self.now)?;
        }
        for (scope, limit) in self.limits.clone() {
            self.carry_out(&BudgetCommand::SetLimit { scope: scope.clone(), limit }, self.now)?;
            self.note_committed(&scope);
        }
        Ok(())
    }

    fn book_past(&mut self, path: &ScopePath, spent: MicroUsd, at: Millis) -> Result<(), String> {
        self.next_id += 1;
        let (id, path, rate) = (ReservationId(self.next_id), path.clone(), MicroUsdPerHour::default());
        self.carry_out(&BudgetCommand::Adopt { id, path, granted: spent, rate }, at)?;
        self.carry_out(&BudgetCommand::Settle { id, settled: spent }, at)?;
        self.carry_out(&BudgetCommand::Release { id }, at)
    }

    /// Sets aside what a node that is there may cost, and books what it cost in earlier months.
    fn adopt(&mut self, id: ReservationId, past: Millis) -> Result<(), String> {
        let node = &self.nodes[&id];
        let ceiling = node.ceilings.last().copied().unwrap_or_default();
        let (granted, rate) = self.grant(node.spent, node.price.get(), ceiling);
        let (path, before) = (node.path.clone(), node.before);
        self.carry_out(&BudgetCommand::Adopt { id, path, granted, rate }, past)?;
        self.carry_out(&BudgetCommand::Settle { id, settled: before }, past)
    }

    fn carry_out(&mut self, command: &BudgetCommand, at: Millis) -> Result<(), String> {
        let events = self.budgets.execute(command, at).map_err(|error| error.to_string())?;
        self.journal.extend(events);
        Ok(())
    }

    /// The invariant, at every scope: within the limit, or at least no further above it than when it was set.
    fn check(&mut self) -> Result<(), String> {
        if let Some(twice) = self.warnings.iter().find(|(_, times)| **times > 1) {
            return Err(format!("warned twice: {twice:?}"));
        }
        let scopes: Vec<Scope> = self.budgets.accounts.keys().cloned().collect();
        for scope in scopes {
            let (total, of_month, rate) = self.committed(&scope);
            let (total_before, of_month_before, rate_before) = self.committed.get(&scope).copied().unwrap_or_default();
            let account = &self.budgets.accounts[&scope];
            let limit = account.limit();
            let broken = limit.total.is_some_and(|limit| total > limit.max(total_before))
                || limit.per_month.is_some_and(|limit| of_month > limit.max(of_month_before))
                || limit.per_hour.is_some_and(|limit| rate > limit.max(rate_before));
            if broken {
                return Err(format!("{scope} is over its limit: {account:?}"));
            }
            self.check_truth(&scope, account)?;
            let fallen = (total.min(total_before), of_month.min(of_month_before), rate.min(rate_before));
            self.committed.insert(scope, fallen);
        }
        Ok(())
    }

    /// What the nodes of a scope really cost is covered by what is spent and reserved for them.
    fn check_truth(&self, scope: &Scope, account: &Account) -> Result<(), String> {
        let (before, of_month) = self.booked(scope);
        if (account.settled(), account.settled_in(self.month)) != (before + of_month, of_month) {
            return Err(format!("{scope}: {before} and {of_month} this month were booked, but {account:?} has others"));
        }
        let open = |id: &ReservationId| self.budgets.reservations[id].settled;
        let mine = || self.nodes.iter().filter(|(_, node)| node.path.scopes().any(|of| of == *scope));
        let unsettled: MicroUsd = mine().map(|(id, node)| node.spent - open(id)).sum();
        if unsettled > account.reserved() {
            return Err(format!("{scope}: {unsettled} is spent, but only {} is reserved", account.reserved()));
        }
        Ok(())
    }

    /// What was booked for a scope in earlier months and in this one, over all controllers.
    fn booked(&self, scope: &Scope) -> (MicroUsd, MicroUsd) {
        let gone = self.gone.iter().map(|(path, before, of_month)| (path, *before, *of_month));
        let there = self.nodes.values().map(|node| (&node.path, node.before, node.booked - node.before));
        let mine = gone.chain(there).filter(|(path, ..)| path.scopes().any(|of| of == *scope));
        mine.fold(Default::default(), |(sum, month), (_, before, of_month)| (sum + before, month + of_month))
    }

    /// Draws a number, so that a caller can check that two worlds of one seed are the same world.
    pub(super) fn fingerprint(&mut self) -> (u64, usize) {
        (self.rng.next_u64(), self.journal.len())
    }
}
