//! Budgets tried by hand, and in random worlds that do what providers do at their worst.

mod simulation;
mod world;

use super::*;
use crate::model::JobId;

fn path(job: u64) -> ScopePath {
    ScopePath { project: "vision".to_owned(), sweep: None, job: Some(JobId::new(job)) }
}

fn reserve(id: u64, job: u64, granted: u64) -> BudgetCommand {
    let (id, rate) = (ReservationId(id), MicroUsdPerHour::new(1_000));
    BudgetCommand::Reserve { id, path: path(job), granted: MicroUsd::new(granted), rate }
}

fn extend(id: u64, granted: u64) -> BudgetCommand {
    let (granted, rate) = (MicroUsd::new(granted), MicroUsdPerHour::new(1_000));
    BudgetCommand::Extend { id: ReservationId(id), granted, rate }
}

fn settle(id: u64, settled: u64) -> BudgetCommand {
    BudgetCommand::Settle { id: ReservationId(id), settled: MicroUsd::new(settled) }
}

fn limit(scope: Scope, total: u64) -> BudgetCommand {
    BudgetCommand::SetLimit { scope, limit: Limit { total: Some(MicroUsd::new(total)), ..Limit::default() } }
}

fn with(commands: &[BudgetCommand]) -> Budgets {
    let mut budgets = Budgets::default();
    for command in commands {
        budgets.execute(command, Millis::ZERO).unwrap();
    }
    budgets
}

fn refusal(budgets: &Budgets, command: &BudgetCommand) -> String {
    budgets.decide(command, Millis::ZERO).unwrap_err().to_string()
}

#[test]
fn the_first_scope_that_lacks_money_is_named_with_all_amounts() {
    let project = Scope::Project("vision".to_owned());
    let budgets = with(&[limit(project, 100), reserve(1, 7, 60), settle(1, 25)]);
    let expected = "the budget of project vision is $0.000100 in total: $0.000025 is spent, $0.000035 reserved, \
                    $0.000041 more is needed";
    assert_eq!(refusal(&budgets, &reserve(2, 8, 41)), expected);
    assert!(budgets.decide(&reserve(2, 8, 40), Millis::ZERO).is_ok());
}

#[test]
fn a_wish_that_arrives_twice_or_late_changes_nothing() {
    let history = [reserve(1, 7, 60), settle(1, 25), extend(1, 80), settle(1, 30)];
    let budgets = with(&history);
    for command in &history {
        assert_eq!(budgets.decide(command, Millis::ZERO), Ok(Vec::new()), "{command:?}");
    }
    let ended = with(&[&history[..], &[BudgetCommand::Release { id: ReservationId(1) }]].concat());
    for command in history.iter().chain(&[extend(1, 90), BudgetCommand::Release { id: ReservationId(1) }]) {
        assert_eq!(ended.decide(command, Millis::ZERO), Ok(Vec::new()), "{command:?}");
    }
    let account = ended.account(&Scope::Organisation).unwrap();
    assert_eq!((account.settled(), account.reserved()), (MicroUsd::new(30), MicroUsd::ZERO));
}

#[test]
fn what_contradicts_the_reservation_is_an_error() {
    let budgets = with(&[reserve(1, 7, 60), settle(1, 25)]);
    let decide = |command| budgets.decide(&command, Millis::ZERO).unwrap_err();
    assert_eq!(decide(reserve(1, 8, 60)), BudgetError::Conflict(ReservationId(1)));
    assert_eq!(decide(settle(2, 1)), BudgetError::Unknown(ReservationId(2)));
    let (id, granted, settled) = (ReservationId(1), MicroUsd::new(60), MicroUsd::new(61));
    assert_eq!(decide(settle(1, 61)), BudgetError::Overrun { id, granted, settled });
    let ended = with(&[reserve(1, 7, 60), BudgetCommand::Release { id: ReservationId(1) }]);
    assert_eq!(ended.decide(&settle(1, 61), Millis::ZERO), Err(BudgetError::Closed { id, settled }));
}

#[test]
fn a_limit_below_what_is_spent_and_set_aside_grants_nothing_until_it_carries_again() {
    let mut budgets = with(&[reserve(1, 7, 60), settle(1, 25), limit(Scope::Organisation, 50)]);
    assert!(budgets.decide(&extend(1, 61), Millis::ZERO).is_err(), "what runs is not carried on");
    assert!(budgets.decide(&reserve(2, 8, 1), Millis::ZERO).is_err());
    assert!(budgets.decide(&settle(1, 60), Millis::ZERO).is_ok(), "what was set aside may still be spent");
    budgets.execute(&BudgetCommand::Release { id: ReservationId(1) }, Millis::ZERO).unwrap();
    assert!(budgets.decide(&reserve(2, 8, 26), Millis::ZERO).is_err());
    assert!(budgets.decide(&reserve(2, 8, 25), Millis::ZERO).is_ok());
    let zero = budgets.decide(&limit(Scope::Organisation, 0), Millis::ZERO);
    assert_eq!(zero, Err(BudgetError::ZeroLimit(Scope::Organisation)));
}

#[test]
fn what_runs_already_is_adopted_whatever_the_limit_and_then_not_carried_on() {
    let adopt = |granted| BudgetCommand::Adopt {
        id: ReservationId(1),
        path: path(7),
        granted: MicroUsd::new(granted),
        rate: MicroUsdPerHour::new(1_000),
    };
    let mut budgets = with(&[limit(Scope::Organisation, 50), adopt(60)]);
    assert_eq!(budgets.decide(&adopt(70), Millis::ZERO), Ok(Vec::new()), "asking twice is asking once");
    assert!(budgets.decide(&extend(1, 61), Millis::ZERO).is_err());
    assert!(budgets.execute(&settle(1, 60), Millis::ZERO).is_ok());
    assert_eq!(budgets.account(&Scope::Organisation).unwrap().settled(), MicroUsd::new(60));
}

#[test]
fn what_was_given_back_can_be_forgotten_and_stays_spent() {
    let mut budgets = with(&[reserve(1, 7, 60), settle(1, 25), reserve(2, 7, 30)]);
    budgets.execute(&BudgetCommand::Release { id: ReservationId(1) }, Millis::ZERO).unwrap();
    budgets.forget_closed();
    assert_eq!(budgets.decide(&settle(1, 26), Millis::ZERO), Err(BudgetError::Unknown(ReservationId(1))));
    assert!(budgets.decide(&settle(2, 30), Millis::ZERO).is_ok());
    let account = budgets.account(&Scope::Organisation).unwrap();
    assert_eq!((account.settled(), account.reserved()), (MicroUsd::new(25), MicroUsd::new(30)));
}

#[test]
fn what_is_left_is_the_smaller_of_the_total_and_the_month() {
    let both = Limit { total: Some(MicroUsd::new(100)), per_month: Some(MicroUsd::new(70)), ..Limit::default() };
    let set = BudgetCommand::SetLimit { scope: Scope::Organisation, limit: both };
    let budgets = with(&[set, reserve(1, 7, 60), settle(1, 50)]);
    let account = budgets.account(&Scope::Organisation).unwrap();
    let february = Month::of(Millis::from_secs(32 * 86_400));
    assert_eq!(account.left(Month::of(Millis::ZERO)), Some((MicroUsd::new(10), LimitKind::Month)));
    assert_eq!(account.left(february), Some((MicroUsd::new(40), LimitKind::Total)));
    assert!(budgets.is_limited(&path(9)));
    assert!(!with(&[reserve(1, 7, 60)]).is_limited(&path(7)));
}

#[test]
fn a_month_ends_at_midnight_utc() {
    let (end, day) = (Millis::new(1_769_904_000_000), 86_400_000);
    assert_eq!(Month::end_after(Millis::new(end.get() - 14_400_000)), end);
    assert_eq!(Month::end_after(end), Millis::new(end.get() + 28 * day));
}

#[test]
fn a_rate_is_limited_and_a_falling_one_always_granted() {
    let rate = |limit| Limit { per_hour: Some(MicroUsdPerHour::new(limit)), ..Limit::default() };
    let set = |limit| BudgetCommand::SetLimit { scope: Scope::Organisation, limit: rate(limit) };
    let mut budgets = with(&[set(2_500), reserve(1, 7, 60), reserve(2, 7, 60)]);
    assert!(matches!(
        budgets.decide(&reserve(3, 7, 60), Millis::ZERO),
        Err(BudgetError::Refused(Refusal { kind: LimitKind::Rate, .. }))
    ));
    let (granted, rate) = (MicroUsd::new(70), MicroUsdPerHour::new(500));
    budgets.execute(&BudgetCommand::Extend { id: ReservationId(1), granted, rate }, Millis::ZERO).unwrap();
    assert!(budgets.execute(&reserve(3, 7, 60), Millis::ZERO).is_ok());
}

#[test]
fn a_warning_comes_once_for_a_limit_and_once_a_month_for_a_monthly_one() {
    let month = Limit { per_month: Some(MicroUsd::new(100)), total: Some(MicroUsd::new(150)), ..Limit::default() };
    let set = BudgetCommand::SetLimit { scope: Scope::Organisation, limit: month };
    let mut budgets = with(&[set, reserve(1, 7, 100)]);
    let warned = |budgets: &mut Budgets, settled, now| {
        let events = budgets.execute(&settle(1, settled), now).unwrap();
        let kinds = events.iter().filter_map(|event| match event {
            BudgetEvent::Warned { kind, .. } => Some(*kind),
            _ => None,
        });
        kinds.collect::<Vec<_>>()
    };
    let february = Millis::from_secs(32 * 86_400);
    assert_eq!(warned(&mut budgets, 79, Millis::ZERO), []);
    assert_eq!(warned(&mut budgets, 80, Millis::ZERO), [LimitKind::Month]);
    assert_eq!(warned(&mut budgets, 90, Millis::ZERO), []);
    assert_eq!(warned(&mut budgets, 91, february), []);
    budgets.execute(&extend(1, 150), february).unwrap();
    assert_eq!(warned(&mut budgets, 120, february), [LimitKind::Total]);
    // The clock goes back; the month does not.
    assert_eq!(warned(&mut budgets, 149, Millis::ZERO), []);
    assert_eq!(budgets.account(&Scope::Organisation).unwrap().settled_in(Month::of(february)), MicroUsd::new(59));
}

#[test]
fn a_new_month_brings_new_money_but_not_for_what_is_set_aside() {
    let month = Limit { per_month: Some(MicroUsd::new(100)), ..Limit::default() };
    let set = BudgetCommand::SetLimit { scope: Scope::Organisation, limit: month };
    let budgets = with(&[set, reserve(1, 7, 90), settle(1, 50)]);
    let february = Millis::from_secs(32 * 86_400);
    assert!(budgets.decide(&reserve(2, 7, 11), Millis::ZERO).is_err());
    assert!(budgets.decide(&reserve(2, 7, 60), february).is_ok());
    assert!(budgets.decide(&reserve(2, 7, 61), february).is_err());
}
