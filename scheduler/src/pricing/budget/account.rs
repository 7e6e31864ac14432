//! The account of one scope: its limit, what is spent, what is set aside.

use std::collections::BTreeSet;

use crate::model::{MicroUsd, MicroUsdPerHour};

use super::event::Refusal;
use super::scope::{Limit, LimitKind, Month, Scope};

/// What one scope has spent and set aside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    pub(super) limit: Limit,
    pub(super) settled: MicroUsd,
    pub(super) month: Month,
    pub(super) settled_in_month: MicroUsd,
    pub(super) reserved: MicroUsd,
    pub(super) rate: u64,
    pub(super) warned: BTreeSet<LimitKind>,
}

impl Account {
    /// The limits.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// What was spent in all.
    pub fn settled(&self) -> MicroUsd {
        self.settled
    }

    /// What was spent in a month.
    pub fn settled_in(&self, month: Month) -> MicroUsd {
        if month == self.month { self.settled_in_month } else { MicroUsd::ZERO }
    }

    /// What is set aside and not spent yet.
    pub fn reserved(&self) -> MicroUsd {
        self.reserved
    }

    /// The most that what runs now may cost an hour.
    pub fn rate(&self) -> MicroUsdPerHour {
        MicroUsdPerHour::new(self.rate)
    }

    /// What could still be spent in a month, beyond what is set aside, and which limit says so; `None` without a limit.
    pub fn left(&self, month: Month) -> Option<(MicroUsd, LimitKind)> {
        let left = |limit: MicroUsd, settled: MicroUsd| limit - settled - self.reserved;
        let total = self.limit.total.map(|limit| (left(limit, self.settled), LimitKind::Total));
        let of_month = self.limit.per_month.map(|limit| (left(limit, self.settled_in(month)), LimitKind::Month));
        total.into_iter().chain(of_month).min()
    }

    /// The limits of which the share that is worth a warning is spent.
    pub fn warned(&self, month: Month) -> impl Iterator<Item = LimitKind> {
        self.warned.iter().copied().filter(move |kind| *kind != LimitKind::Month || month == self.month)
    }

    /// Whether what is asked for stays within the limits. What is not asked for is not looked at: a rate that falls
    /// is always granted.
    pub(super) fn check(&self, scope: &Scope, month: Month, ask: Ask) -> Result<(), Refusal> {
        let of_month = self.settled_in(month);
        let rate = MicroUsd::new(self.rate.saturating_sub(ask.slower.get()));
        let faster = MicroUsd::new(ask.faster.get());
        let per_hour = self.limit.per_hour.map(|rate| MicroUsd::new(rate.get()));
        let rows = [
            (LimitKind::Total, self.limit.total, self.settled, self.reserved, ask.more),
            (LimitKind::Month, self.limit.per_month, of_month, self.reserved, ask.more),
            (LimitKind::Rate, per_hour, MicroUsd::ZERO, rate, faster),
        ];
        for (kind, limit, settled, reserved, asked) in rows {
            let Some(limit) = limit.filter(|limit| above(settled, reserved, asked, *limit)) else { continue };
            return Err(Refusal { scope: scope.clone(), kind, limit, settled, reserved, asked });
        }
        Ok(())
    }

    /// Sets money aside, with a rate that takes another's place.
    pub(super) fn reserve(&mut self, more: MicroUsd, old: MicroUsdPerHour, rate: MicroUsdPerHour) {
        self.reserved += more;
        self.rate = (self.rate - old.get()).saturating_add(rate.get());
    }

    /// Gives back what is left of a reservation.
    pub(super) fn release(&mut self, left: MicroUsd, rate: MicroUsdPerHour) {
        self.reserved = self.reserved - left;
        self.rate -= rate.get();
    }

    /// Moves money from set aside to spent.
    pub(super) fn settle(&mut self, amount: MicroUsd, month: Month) {
        if month != self.month {
            self.month = month;
            self.settled_in_month = MicroUsd::ZERO;
            self.warned.remove(&LimitKind::Month);
        }
        self.reserved = self.reserved - amount;
        self.settled += amount;
        self.settled_in_month += amount;
    }

    /// The warnings that are due once `amount` more is spent.
    pub(super) fn warnings(&self, amount: MicroUsd, month: Month) -> Vec<LimitKind> {
        let due = |kind: LimitKind, limit: Option<MicroUsd>, settled: MicroUsd| {
            let old = self.warned.contains(&kind) && (kind != LimitKind::Month || month == self.month);
            let share = |limit: MicroUsd| u128::from(limit.get()) * u128::from(self.limit.warn_at_permille) / 1_000;
            let reached = limit.is_some_and(|limit| u128::from((settled + amount).get()) >= share(limit));
            (reached && !old).then_some(kind)
        };
        let total = due(LimitKind::Total, self.limit.total, self.settled);
        total.into_iter().chain(due(LimitKind::Month, self.limit.per_month, self.settled_in(month))).collect()
    }
}

/// What is asked of an account: more money, and a rate that is replaced by another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ask {
    /// Money to set aside.
    pub(super) more: MicroUsd,
    /// The rate that ends.
    pub(super) slower: MicroUsdPerHour,
    /// The rate that begins.
    pub(super) faster: MicroUsdPerHour,
}

/// Whether the sum is above the limit, without the saturation that [`MicroUsd`] adds with.
fn above(settled: MicroUsd, reserved: MicroUsd, asked: MicroUsd, limit: MicroUsd) -> bool {
    let sum: u128 = [settled, reserved, asked].iter().map(|amount| u128::from(amount.get())).sum();
    asked > MicroUsd::ZERO && sum > u128::from(limit.get())
}
