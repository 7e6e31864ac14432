//! Fair share with history: the project that has used least of what it is entitled to is served first.
//!
//! The simple form of Slurm's multifactor fair share (<https://slurm.schedmd.com/priority_multifactor.html>,
//! <https://slurm.schedmd.com/classic_fair_share.html>): usage decays with a half-life, and projects are ordered by decayed
//! usage over shares, which orders them as Slurm's factor 2^(−usage/shares) does. Usage is dollars rather than core
//! seconds, so that an expensive node counts as what it is. Within a project, and between projects that stand equal, the
//! older job comes first. Nothing is preempted: a project's standing acts when nodes become free.

use std::collections::BTreeMap;

use super::rule::{Policy, by_age};
use super::snapshot::{JobDemand, Snapshot};
use super::terms::Account;
use crate::model::{MicroUsd, Millis};

/// Ordered by decayed usage over shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairShare {
    /// After this time usage counts half.
    pub half_life: Millis,
}

impl Default for FairShare {
    /// Slurm's `PriorityDecayHalfLife` is 7 days by default.
    fn default() -> Self {
        Self { half_life: Millis::from_secs(7 * 24 * 3_600) }
    }
}

impl Policy for FairShare {
    fn name(&self) -> &'static str {
        "fair_share"
    }

    fn order<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a JobDemand> {
        let standing: BTreeMap<&str, u128> = snapshot
            .accounts
            .projects
            .iter()
            .map(|(name, account)| (name.as_str(), self.standing(account, snapshot.now)))
            .collect();
        let mut queue = by_age(snapshot);
        queue.sort_by_key(|job| standing.get(job.terms.project.as_str()).copied().unwrap_or(0));
        queue
    }
}

impl FairShare {
    /// The account with what it used until `now` decayed, and `cost` added.
    #[must_use]
    pub fn charged(&self, account: &Account, now: Millis, cost: MicroUsd) -> Account {
        Account { shares: account.shares, used: self.used(account, now) + cost, at: now.max(account.at) }
    }

    fn used(&self, account: &Account, now: Millis) -> MicroUsd {
        let age = now.since(account.at).as_secs_f64() / self.half_life.as_secs_f64().max(1e-3);
        MicroUsd::new((account.used.get() as f64 * (-age).exp2()) as u64)
    }

    /// Usage over shares, in millionths of a micro-dollar so that small shares still tell apart; no share comes last.
    fn standing(&self, account: &Account, now: Millis) -> u128 {
        let used = u128::from(self.used(account, now).get()) * 1_000_000;
        used.checked_div(u128::from(account.shares)).unwrap_or(u128::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{cluster, job};

    #[test]
    fn usage_halves_with_each_half_life() {
        let policy = FairShare { half_life: Millis::from_secs(100) };
        let account = Account { shares: 1, used: MicroUsd::new(800), at: Millis::ZERO };
        let later = policy.charged(&account, Millis::from_secs(300), MicroUsd::new(7));
        assert_eq!((later.used, later.at), (MicroUsd::new(107), Millis::from_secs(300)));
    }

    #[test]
    fn the_project_that_used_least_of_its_share_comes_first() {
        let mut snapshot = cluster(vec![job(1, 1, 1), job(2, 1, 1), job(3, 1, 1)], vec![], 0);
        let account = |shares, used| Account { shares, used: MicroUsd::new(used), at: snapshot.now };
        let accounts = [("a", account(1, 900)), ("b", account(4, 2_000))];
        snapshot.accounts.projects = accounts.map(|(name, account)| (name.to_owned(), account)).into();
        for (job, project) in snapshot.jobs.iter_mut().zip(["a", "b", "new"]) {
            job.terms.project = project.to_owned();
        }
        let order: Vec<u64> = FairShare::default().order(&snapshot).iter().map(|job| job.id.number()).collect();
        assert_eq!(order, [3, 2, 1]);
    }
}
