//! What an earlier control plane spent and set aside, booked again from the bill and the nodes that are there.

use std::collections::{BTreeMap, BTreeSet};

use neap_scheduler::model::{JobId, MicroUsd, MicroUsdPerHour, Millis};
use neap_scheduler::pricing::budget::{BudgetCommand, Month, ScopePath};
use neap_scheduler::pricing::cut;
use neap_scheduler::spec::DEFAULT_PROJECT;

use super::Controller;
use super::money::{Held, Paid};
use crate::clock;

impl Controller {
    /// Books the bill of the past and sets aside what the nodes that are there may cost, as the control plane before had it.
    pub(super) fn take_over_money(&mut self) {
        let now = clock::now();
        let past = self.past_spending(now);
        for (path, before, _) in &past {
            self.book_past(path, *before, Millis::ZERO);
        }
        for (path, _, of_month) in &past {
            self.book_past(path, *of_month, now);
        }
        self.live.money.budgets.forget_closed();
        for paid in self.paid_nodes(now) {
            let Paid { job, node, price, spent } = paid;
            let (id, path) = (self.next_reservation(), self.path_of(job));
            self.carry_out_command(
                &BudgetCommand::Adopt { id, path, granted: self.worst_case(price), rate: price },
                now,
            );
            self.live.money.held.insert((job, node), Held { id, since: spent });
        }
        self.set_limits(now);
    }

    /// What was spent before this month and in it, up to `now`, and who paid. Jobs that are over and have no node any more
    /// count for their project only.
    fn past_spending(&self, now: Millis) -> Vec<(ScopePath, MicroUsd, MicroUsd)> {
        let mut by_job: BTreeMap<Option<JobId>, BTreeMap<Month, MicroUsd>> =
            self.state.jobs.values().map(|job| (Some(job.id), job.cost_by_month.clone())).collect();
        by_job.insert(None, self.state.unattributed_by_month.clone());
        let open = self.state.live_nodes().flat_map(|node| self.state.open_lines(node.id, now));
        for piece in open.flat_map(|line| cut(&line, Month::end_after)) {
            *by_job.entry(piece.job).or_default().entry(Month::of(piece.from)).or_default() += piece.amount;
        }
        let paying = self.paid_nodes(now).into_iter().map(|paid| paid.job);
        let here: BTreeSet<JobId> = self.state.live_jobs().map(|job| job.id).chain(paying).collect();
        let of_project = |path: ScopePath| ScopePath { job: None, ..path };
        let path = |job: Option<JobId>| match job {
            Some(job) if here.contains(&job) => self.path_of(job),
            Some(job) => of_project(self.path_of(job)),
            // What no job caused is paid by the project of those that name none.
            None => ScopePath { project: DEFAULT_PROJECT.to_owned(), sweep: None, job: None },
        };
        let this = Month::of(now);
        let split = |months: &BTreeMap<Month, MicroUsd>| {
            let before = months.range(..this).map(|(_, amount)| *amount).sum();
            (before, months.range(this..).map(|(_, amount)| *amount).sum())
        };
        let spent = by_job.into_iter().map(|(job, months)| (path(job), split(&months)));
        spent.map(|(path, (before, of_month))| (path, before, of_month)).collect()
    }

    fn book_past(&mut self, path: &ScopePath, spent: MicroUsd, at: Millis) {
        if spent == MicroUsd::ZERO {
            return;
        }
        let (id, path, rate) = (self.next_reservation(), path.clone(), MicroUsdPerHour::default());
        for command in [
            BudgetCommand::Adopt { id, path, granted: spent, rate },
            BudgetCommand::Settle { id, settled: spent },
            BudgetCommand::Release { id },
        ] {
            self.carry_out_command(&command, at);
        }
    }
}
