//! From what is known and what was spent to a forecast. Pure: whoever calls it has asked the controller and read the ledger.

use neap_scheduler::model::{JobId, MicroUsd, Millis};
use neap_scheduler::pricing::LedgerLine;
use neap_scheduler::pricing::attribution::{AttributedLine, lose};
use neap_scheduler::pricing::budget::{LimitKind, Month, Scope};
use neap_scheduler::pricing::forecast::{Forecast, ForecastInput, QueuedSpend, RunningSpend, forecast, hourly};

use crate::views::{ForecastView, OpenBill, ScopeBudgetView, ScopeForecast};

/// The same ledger gives the same forecast.
const SEED: u64 = 1;

/// What is known to come, with the projects that will pay.
#[derive(Debug, Default)]
pub(crate) struct Outlook {
    pub(crate) running: Vec<(String, RunningSpend)>,
    pub(crate) queued: Vec<(String, QueuedSpend)>,
    /// Jobs that wait and whose cost nobody knows.
    pub(crate) unknown: Vec<JobId>,
    pub(crate) budgets: Vec<ScopeBudgetView>,
}

/// All lines of a bill up to the moment of `open`: those written down before it, and the open ones. What was written down
/// since is in the open lines already. Work that was thrown away is booked as lost.
pub(crate) fn whole_bill(stored: Vec<AttributedLine>, open: &OpenBill) -> Vec<AttributedLine> {
    let before = |line: &AttributedLine| {
        let continued = open.lines.iter().find(|open| open.line.node == line.line.node);
        line.line.to <= continued.map_or(open.now, |open| open.line.from)
    };
    let lines = stored.into_iter().filter(before).chain(open.lines.iter().cloned()).collect();
    open.losses.iter().fold(lines, |lines, loss| lose(lines, *loss))
}

/// Forecasts what the organisation and everybody with a limit will spend until `until`.
pub(crate) fn foresee(outlook: &Outlook, open: &OpenBill, bill: &[AttributedLine], until: Millis) -> ForecastView {
    let all = of_scope(outlook, open, bill, &Scope::Organisation, until, None);
    let whole = ScopeForecast {
        scope: Scope::Organisation,
        kind: None,
        until,
        spend: all.spend,
        left: None,
        overspend_chance: None,
        exhausted: None,
    };
    let limits = outlook.budgets.iter().flat_map(|budget| limits_of(budget, open.now, until));
    let limited = limits.map(|(scope, kind, left, until)| {
        let Forecast { spend, overspend_chance, exhausted, .. } =
            of_scope(outlook, open, bill, &scope, until, Some(left));
        // A month's limit begins anew with the next month, so that it cannot be reached later than in this one.
        let within = |moment: Option<Millis>| moment.filter(|moment| kind != LimitKind::Month || *moment < until);
        let exhausted = exhausted.map(|mut range| {
            (range.p10, range.p50, range.p90) = (within(range.p10), within(range.p50), within(range.p90));
            range
        });
        ScopeForecast { scope, kind: Some(kind), until, spend, left: Some(left), overspend_chance, exhausted }
    });
    let first = bill.iter().map(|line| line.line.from).min().unwrap_or(open.now);
    ForecastView {
        from: open.now,
        until,
        basis: all.basis,
        history: open.now.since(first),
        running: (outlook.running.len(), outlook.running.iter().filter(|(_, spend)| spend.left.is_none()).count()),
        queued: outlook.queued.len(),
        unknown: outlook.unknown.clone(),
        scopes: std::iter::once(whole).chain(limited).collect(),
    }
}

/// The limits in money of a budget, with what is left and until when they are looked at.
fn limits_of(budget: &ScopeBudgetView, now: Millis, until: Millis) -> Vec<(Scope, LimitKind, MicroUsd, Millis)> {
    let scope = || budget.scope.clone();
    let total = budget.limit.total.map(|limit| (scope(), LimitKind::Total, limit - budget.spent, until));
    let month_end = until.min(Month::end_after(now));
    let month =
        budget.limit.per_month.map(|limit| (scope(), LimitKind::Month, limit - budget.spent_in_month, month_end));
    total.into_iter().chain(month).collect()
}

fn of_scope(
    outlook: &Outlook,
    open: &OpenBill,
    bill: &[AttributedLine],
    scope: &Scope,
    until: Millis,
    budget_left: Option<MicroUsd>,
) -> Forecast {
    let pays = |project: &str| match scope {
        Scope::Project(name) => name == project,
        _ => true,
    };
    let project = |line: &&LedgerLine| line.job.and_then(|job| open.jobs.get(&job)).map_or("", |(_, project)| project);
    let lines = bill.iter().map(|line| &line.line).filter(|line| *scope == Scope::Organisation || pays(project(line)));
    let hours = hourly(lines, open.now);
    let running: Vec<RunningSpend> =
        outlook.running.iter().filter(|(project, _)| pays(project)).map(|(_, spend)| *spend).collect();
    let queued: Vec<QueuedSpend> =
        outlook.queued.iter().filter(|(project, _)| pays(project)).map(|(_, spend)| *spend).collect();
    forecast(&ForecastInput {
        now: open.now,
        hourly: &hours,
        running: &running,
        queued: &queued,
        until,
        budget_left,
        seed: SEED,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use neap_scheduler::model::NodeId;
    use neap_scheduler::pricing::Category;
    use neap_scheduler::pricing::budget::Limit;
    use neap_scheduler::pricing::forecast::Basis;

    use super::*;

    const NOW: Millis = Millis::new(1_769_889_600_000); // 2026-01-31 20:00 UTC
    const DAY: u64 = 86_400_000;

    fn line(node: u64, job: u64, from: u64, to: u64, dollars: u64) -> AttributedLine {
        let line = LedgerLine {
            node: NodeId::new(node),
            job: Some(JobId::new(job)),
            category: Category::Busy,
            from: Millis::new(from),
            to: Millis::new(to),
            amount: MicroUsd::new(dollars * 1_000_000),
        };
        AttributedLine { line, actor: None }
    }

    fn open(lines: Vec<AttributedLine>) -> OpenBill {
        let job = |number, project: &str| (JobId::new(number), (format!("job-{number}"), project.to_owned()));
        OpenBill { now: NOW, lines, losses: Vec::new(), jobs: BTreeMap::from([job(1, "vision"), job(2, "speech")]) }
    }

    #[test]
    fn what_was_written_down_meanwhile_is_not_counted_twice() {
        let now = NOW.get();
        let open = open(vec![line(1, 1, now - 500, now, 5)]);
        let stored = vec![
            line(1, 1, now - 900, now - 500, 4),
            line(1, 1, now - 500, now + 100, 6),
            line(2, 1, now, now + 100, 1),
        ];
        let bill = whole_bill(stored, &open);
        assert_eq!(bill.iter().map(|line| line.line.amount).sum::<MicroUsd>(), MicroUsd::new(9_000_000));
    }

    #[test]
    fn each_limit_is_held_against_the_spending_of_its_own_scope() {
        let now = NOW.get();
        let bill: Vec<AttributedLine> = (1..=14)
            .flat_map(|day| {
                let (from, to) = (now - day * DAY, now - (day - 1) * DAY);
                [line(1, 1, from, to, 10), line(2, 2, from, to, 100)]
            })
            .collect();
        let budget = |scope, limit| ScopeBudgetView {
            scope,
            job_name: None,
            limit,
            set_at: None,
            month: Month::of(NOW),
            spent: MicroUsd::new(140_000_000),
            spent_in_month: MicroUsd::new(140_000_000),
            reserved: MicroUsd::ZERO,
            rate: neap_scheduler::model::MicroUsdPerHour::default(),
            warned: Vec::new(),
        };
        let dollars = |dollars: u64| Some(MicroUsd::new(dollars * 1_000_000));
        let vision = Scope::Project("vision".to_owned());
        let outlook = Outlook {
            budgets: vec![
                budget(vision.clone(), Limit { total: dollars(190), ..Limit::default() }),
                budget(vision, Limit { per_month: dollars(190), ..Limit::default() }),
            ],
            ..Outlook::default()
        };
        let view = foresee(&outlook, &open(Vec::new()), &bill, Millis::new(now + 10 * DAY));
        assert_eq!((view.basis, view.history), (Basis::History { days: 14 }, Millis::new(14 * DAY)));
        let [all, total, month] = view.scopes.as_slice() else { panic!("{view:#?}") };
        let near = |amount: MicroUsd, dollars: f64| (amount.as_dollars() - dollars).abs() < 0.01 * dollars;
        assert!(near(all.spend.p50, 1_100.0), "{all:?}");
        assert!(near(total.spend.p50, 100.0), "{total:?}");
        assert_eq!(total.overspend_chance, Some(1.0));
        assert!(total.exhausted.unwrap().p50.unwrap().since(NOW) <= Millis::new(5 * DAY + 1_000), "{total:?}");
        // Four hours of the month are left, in which a sixth of a day's ten dollars is spent.
        assert!(near(month.spend.p50, 10.0 / 6.0), "{month:?}");
        assert_eq!((month.overspend_chance, month.exhausted.unwrap().p50), (Some(0.0), None));
    }
}
