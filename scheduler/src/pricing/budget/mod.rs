//! Budgets that cannot be overspent: money is set aside before a node is rented, and booked as it is spent.
//!
//! Invariant 3: at every scope, for ever, `settled + reserved ≤ limit`, in total and within a month, and the rates of
//! all that runs stay within the limit for an hour. A reservation is the worst case until its node can be gone; see
//! [`Exposure`] for the rule that keeps it large enough through slow deletes and price jumps.
//!
//! Where a limit is set below what is spent and set aside already, or what already runs is adopted above it, nothing is
//! granted until nodes have been given back: what is above a limit only ever falls.
//!
//! A pure state machine: [`Budgets::decide`] turns a [`BudgetCommand`] into events or a refusal and changes nothing,
//! [`Budgets::apply`] takes an event in, [`Budgets::replay`] rebuilds the state from the events. Whoever carries it
//! out writes the events to the journal between the two. Commands carry totals and the caller's ids, so that one whose
//! reply was lost is simply sent again.
//!
//! It does not know nodes, providers or time beyond the calendar month.

mod account;
mod event;
mod exposure;
mod scope;

pub use account::Account;
pub use event::{BudgetCommand, BudgetError, BudgetEvent, Refusal, ReservationId};
pub use exposure::Exposure;
pub use scope::{Limit, LimitKind, Month, Scope, ScopeParseError, ScopePath, WARN_AT_PERMILLE};

use std::collections::BTreeMap;

use account::Ask;

use crate::model::{MicroUsd, MicroUsdPerHour, Millis};

/// Money set aside for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reservation {
    path: ScopePath,
    granted: MicroUsd,
    settled: MicroUsd,
    rate: MicroUsdPerHour,
    open: bool,
}

/// All budgets and what is spent and set aside of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Budgets {
    accounts: BTreeMap<Scope, Account>,
    reservations: BTreeMap<ReservationId, Reservation>,
    month: Month,
}

impl Budgets {
    /// The state after these events.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a BudgetEvent>) -> Self {
        let mut budgets = Self::default();
        events.into_iter().for_each(|event| budgets.apply(event));
        budgets
    }

    /// The account of a scope, if it has a limit or ever had a reservation.
    pub fn account(&self, scope: &Scope) -> Option<&Account> {
        self.accounts.get(scope)
    }

    /// Whether anything limits what is spent on a path.
    pub fn is_limited(&self, path: &ScopePath) -> bool {
        path.scopes().any(|scope| self.accounts.get(&scope).is_some_and(|account| account.limit.is_some()))
    }

    /// What is granted to a reservation in all, if there is such a one.
    pub fn granted(&self, id: ReservationId) -> Option<MicroUsd> {
        self.reservations.get(&id).map(|reservation| reservation.granted)
    }

    /// Forgets the reservations that were given back. Commands about them are refused from then on, so that only a caller
    /// who sends each command once may do this.
    pub fn forget_closed(&mut self) {
        self.reservations.retain(|_, reservation| reservation.open);
    }

    /// Decides and takes the events in; they are given back to be written down.
    ///
    /// # Errors
    ///
    /// See [`Self::decide`].
    pub fn execute(&mut self, command: &BudgetCommand, now: Millis) -> Result<Vec<BudgetEvent>, BudgetError> {
        let events = self.decide(command, now)?;
        events.iter().for_each(|event| self.apply(event));
        Ok(events)
    }

    /// What would happen if `command` were carried out at `now`; no event where it changes nothing. A clock that goes
    /// back counts as one that stands still.
    ///
    /// # Errors
    ///
    /// See [`BudgetError`].
    pub fn decide(&self, command: &BudgetCommand, now: Millis) -> Result<Vec<BudgetEvent>, BudgetError> {
        let month = self.month.max(Month::of(now));
        match command {
            BudgetCommand::SetLimit { scope, limit } => self.set_limit(scope, *limit),
            BudgetCommand::Reserve { id, path, granted, rate } => {
                let ask = Ask { more: *granted, slower: MicroUsdPerHour::default(), faster: *rate };
                self.open(*id, path, *granted, *rate, || self.check(path, month, ask))
            }
            BudgetCommand::Adopt { id, path, granted, rate } => self.open(*id, path, *granted, *rate, || Ok(())),
            BudgetCommand::Extend { id, granted, rate } => self.extend(*id, *granted, *rate, month),
            BudgetCommand::Settle { id, settled } => self.settle(*id, *settled, month),
            BudgetCommand::Release { id } => {
                let open = self.reservation(*id)?.open;
                Ok(open.then_some(BudgetEvent::Released { id: *id }).into_iter().collect())
            }
        }
    }

    fn set_limit(&self, scope: &Scope, limit: Limit) -> Result<Vec<BudgetEvent>, BudgetError> {
        if limit.has_zero() {
            return Err(BudgetError::ZeroLimit(scope.clone()));
        }
        let same = self.accounts.get(scope).map(Account::limit).unwrap_or_default() == limit;
        Ok((!same).then(|| BudgetEvent::LimitSet { scope: scope.clone(), limit }).into_iter().collect())
    }

    /// Opens a reservation that is not there yet, if `allowed`.
    fn open(
        &self,
        id: ReservationId,
        path: &ScopePath,
        granted: MicroUsd,
        rate: MicroUsdPerHour,
        allowed: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<Vec<BudgetEvent>, BudgetError> {
        if let Some(known) = self.reservations.get(&id) {
            let same = known.path == *path;
            return same.then(Vec::new).ok_or(BudgetError::Conflict(id));
        }
        allowed()?;
        Ok(vec![BudgetEvent::Reserved { id, path: path.clone(), granted, rate }])
    }

    fn extend(
        &self,
        id: ReservationId,
        granted: MicroUsd,
        rate: MicroUsdPerHour,
        month: Month,
    ) -> Result<Vec<BudgetEvent>, BudgetError> {
        let reservation = self.reservation(id)?;
        if granted <= reservation.granted || !reservation.open {
            return Ok(Vec::new());
        }
        let ask = Ask { more: granted - reservation.granted, slower: reservation.rate, faster: rate };
        self.check(&reservation.path, month, ask)?;
        Ok(vec![BudgetEvent::Extended { id, granted, rate }])
    }

    fn settle(&self, id: ReservationId, settled: MicroUsd, month: Month) -> Result<Vec<BudgetEvent>, BudgetError> {
        let reservation = self.reservation(id)?;
        if settled <= reservation.settled {
            return Ok(Vec::new());
        }
        if !reservation.open {
            return Err(BudgetError::Closed { id, settled });
        }
        if settled > reservation.granted {
            return Err(BudgetError::Overrun { id, granted: reservation.granted, settled });
        }
        let amount = settled - reservation.settled;
        let mut events = vec![BudgetEvent::Settled { id, settled, month }];
        for scope in reservation.path.scopes() {
            let kinds = self.accounts.get(&scope).map(|account| account.warnings(amount, month)).unwrap_or_default();
            events.extend(kinds.into_iter().map(|kind| BudgetEvent::Warned { scope: scope.clone(), kind }));
        }
        Ok(events)
    }

    fn reservation(&self, id: ReservationId) -> Result<&Reservation, BudgetError> {
        self.reservations.get(&id).ok_or(BudgetError::Unknown(id))
    }

    fn check(&self, path: &ScopePath, month: Month, ask: Ask) -> Result<(), Refusal> {
        let mut scopes = path.scopes();
        scopes
            .try_for_each(|scope| self.accounts.get(&scope).map_or(Ok(()), |account| account.check(&scope, month, ask)))
    }

    /// Takes an event in. Events come from [`Self::decide`]; one about an unknown reservation changes nothing.
    pub fn apply(&mut self, event: &BudgetEvent) {
        match event {
            BudgetEvent::LimitSet { scope, limit } => {
                let account = self.accounts.entry(scope.clone()).or_default();
                account.limit = *limit;
                account.warned.clear();
            }
            BudgetEvent::Reserved { id, path, granted, rate } => {
                let (granted, rate) = (*granted, *rate);
                let reservation =
                    Reservation { path: path.clone(), granted, settled: MicroUsd::ZERO, rate, open: true };
                self.reservations.insert(*id, reservation);
                self.book(path, |account| account.reserve(granted, MicroUsdPerHour::default(), rate));
            }
            BudgetEvent::Extended { id, granted, rate } => {
                let Some(reservation) = self.reservations.get_mut(id) else { return };
                let (more, old) = (*granted - reservation.granted, reservation.rate);
                (reservation.granted, reservation.rate) = (*granted, *rate);
                let path = reservation.path.clone();
                self.book(&path, |account| account.reserve(more, old, *rate));
            }
            BudgetEvent::Settled { id, settled, month } => {
                self.month = self.month.max(*month);
                let Some(reservation) = self.reservations.get_mut(id) else { return };
                let amount = *settled - reservation.settled;
                reservation.settled = *settled;
                let path = reservation.path.clone();
                self.book(&path, |account| account.settle(amount, *month));
            }
            BudgetEvent::Released { id } => {
                let Some(reservation) = self.reservations.get_mut(id) else { return };
                reservation.open = false;
                let (left, rate, path) =
                    (reservation.granted - reservation.settled, reservation.rate, reservation.path.clone());
                self.book(&path, |account| account.release(left, rate));
            }
            BudgetEvent::Warned { scope, kind } => {
                self.accounts.entry(scope.clone()).or_default().warned.insert(*kind);
            }
        }
    }

    fn book(&mut self, path: &ScopePath, change: impl Fn(&mut Account)) {
        path.scopes().for_each(|scope| change(self.accounts.entry(scope).or_default()));
    }
}

#[cfg(test)]
mod tests;
