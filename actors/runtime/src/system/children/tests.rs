//! The supervision tree under any sequence of events.

use std::collections::BTreeMap;

use neap_scheduler::model::NodeId;
use proptest::prelude::*;

use super::*;

const PARENTS: [Parent; 2] = [Parent::Main, Parent::Actor(1)];

fn worker(number: u64) -> WorkerId {
    WorkerId::new(number)
}

fn seats(numbers: &[u64]) -> Vec<Seat> {
    numbers.iter().map(|&number| Seat { worker: worker(number), node: Some(NodeId::new(number)) }).collect()
}

fn spec(parent: Parent, name: &str, on_failure: OnFailure) -> ChildSpec {
    ChildSpec { parent, name: name.to_owned(), kind: "kind".to_owned(), placement: Placement::Spread, on_failure }
}

fn at(millis: u64) -> Moment {
    Moment { now: Millis::new(millis), draw: 0 }
}

/// A child that runs on the first of two workers.
fn running(on_failure: OnFailure) -> (Children, u64) {
    let mut children = Children::default();
    let (id, effects) = children.add(spec(Parent::Main, "one", on_failure), &seats(&[1, 2])).unwrap();
    assert_eq!(effects, [Effect::Start { child: id, incarnation: 1, worker: worker(1) }]);
    assert_eq!(children.started(id, 1), [Effect::Up { child: id, incarnation: 1, worker: worker(1) }]);
    (children, id)
}

#[test]
fn a_lost_worker_moves_its_children_and_their_old_incarnation_is_not_heard() {
    let (mut children, id) = running(OnFailure::Restart);
    let effects = children.worker_lost(worker(1), at(0));
    let retry = Effect::RetryAfter { child: id, incarnation: 1, pause: Duration::ZERO };
    assert_eq!(effects, [Effect::Down { child: id }, retry]);
    let effects = children.retry(id, 1, &seats(&[2]));
    assert_eq!(effects, [Effect::Start { child: id, incarnation: 2, worker: worker(2) }]);
    assert_eq!(children.ended(id, 1, Exit::Stopped), []);
    assert_eq!(children.failed(id, 1, "late", at(1)), (Directive::End, vec![]));
    assert_eq!(children.started(id, 2), [Effect::Up { child: id, incarnation: 2, worker: worker(2) }]);
}

#[test]
fn a_child_that_must_run_on_a_lost_worker_is_gone() {
    let mut children = Children::default();
    let on = ChildSpec { placement: Placement::On(worker(2)), ..spec(Parent::Main, "one", OnFailure::Restart) };
    let (id, _) = children.add(on, &seats(&[1, 2])).unwrap();
    children.started(id, 1);
    children.worker_lost(worker(2), at(0));
    let effects = children.retry(id, 1, &seats(&[1]));
    assert!(matches!(&effects[..], [Effect::Exited { exit: Exit::Failed(_), .. }]), "{effects:?}");
}

#[test]
fn a_child_leaves_a_worker_that_has_to_go_once_and_at_no_cost() {
    let (mut children, id) = running(OnFailure::Escalate);
    let leave = Effect::Leave { child: id, incarnation: 1, worker: worker(1), stays: false };
    assert_eq!(children.worker_leaves(worker(1), &seats(&[2])), [Effect::Down { child: id }, leave]);
    assert_eq!(children.worker_leaves(worker(1), &seats(&[2])), [], "told once");
    assert_eq!(children.worker_leaves(worker(2), &seats(&[1])), [], "not there");
    let effects = children.left(id, 1, &seats(&[2]), at(0));
    assert_eq!(effects, [Effect::Start { child: id, incarnation: 2, worker: worker(2) }]);
    assert_eq!(children.left(id, 1, &seats(&[2]), at(0)), [], "only once");
    children.started(id, 2);
    // Its next worker may have to go, too.
    let effects = children.worker_leaves(worker(2), &[]);
    assert_eq!(effects, [Effect::Leave { child: id, incarnation: 2, worker: worker(2), stays: true }], "nowhere to go");
}

#[test]
fn a_child_that_is_told_to_leave_and_then_to_stop_is_gone() {
    let (mut children, id) = running(OnFailure::Restart);
    children.worker_leaves(worker(1), &seats(&[2]));
    assert_eq!(children.stop(id), [Effect::Stop { child: id, incarnation: 1, worker: worker(1) }]);
    assert!(matches!(&children.left(id, 1, &seats(&[2]), at(0))[..], [Effect::Exited { exit: Exit::Stopped, .. }]));
}

#[test]
fn what_a_leaving_host_supervises_hears_of_it_and_stays() {
    let (mut children, id) = running(OnFailure::Restart);
    let stays = Effect::Leave { child: id, incarnation: 1, worker: worker(1), stays: true };
    assert_eq!(children.home_leaves(), [stays]);
    assert_eq!(children.home_leaves(), []);
}

#[test]
fn a_first_start_that_is_refused_is_no_failure_to_repair() {
    let mut children = Children::default();
    let (id, _) = children.add(spec(Parent::Main, "one", OnFailure::Restart), &seats(&[1])).unwrap();
    let effects = children.start_failed(id, 1, StartFailure::Refused("no file".to_owned()), at(0));
    let exit = Exit::Failed("no file".to_owned());
    assert_eq!(effects, [Effect::Exited { child: id, parent: Parent::Main, name: "one".to_owned(), exit }]);
    assert_eq!(children.len(), 0);
}

#[test]
fn a_storm_of_restarts_escalates_exactly_once_whoever_storms() {
    let mut children = Children::default();
    let workers = seats(&[1]);
    let (one, _) = children.add(spec(Parent::Actor(7), "one", OnFailure::Restart), &workers).unwrap();
    let (two, _) = children.add(spec(Parent::Actor(7), "two", OnFailure::Restart), &workers).unwrap();
    children.started(one, 1);
    children.started(two, 1);
    let mut escalations = 0;
    for round in 0..20 {
        for id in [one, two] {
            let (directive, effects) = children.failed(id, 1, "boom", at(round));
            escalations += effects.iter().filter(|effect| matches!(effect, Effect::Escalate { .. })).count();
            assert_eq!(directive == Directive::End, round >= 5, "round {round}");
        }
    }
    assert_eq!(escalations, 1);
    assert_eq!(children.len(), 0);
}

#[test]
fn stopping_a_child_that_is_still_starting_ends_it_once_it_is_up() {
    let mut children = Children::default();
    let (id, _) = children.add(spec(Parent::Main, "one", OnFailure::Restart), &seats(&[1])).unwrap();
    assert_eq!(children.stop(id), []);
    assert_eq!(children.started(id, 1), [Effect::Stop { child: id, incarnation: 1, worker: worker(1) }]);
    assert!(matches!(&children.ended(id, 1, Exit::Stopped)[..], [Effect::Exited { exit: Exit::Stopped, .. }]));
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, u8),
    Started(u64, u32),
    StartFailed(u64, u32, bool),
    Failed(u64, u32),
    Ended(u64, u32),
    Lost(u64),
    Retry(u64, u32),
    Stop(u64),
    ParentGone(usize),
    Leaves(u64),
    HomeLeaves,
    Left(u64, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let (child, incarnation) = (1u64..6, 1u32..5);
    prop_oneof![
        (0usize..2, any::<u8>()).prop_map(|(parent, name)| Step::Add(parent, name % 4)),
        (child.clone(), incarnation.clone()).prop_map(|(id, of)| Step::Started(id, of)),
        (child.clone(), incarnation.clone(), any::<bool>()).prop_map(|(id, of, own)| Step::StartFailed(id, of, own)),
        (child.clone(), incarnation.clone()).prop_map(|(id, of)| Step::Failed(id, of)),
        (child.clone(), incarnation.clone()).prop_map(|(id, of)| Step::Ended(id, of)),
        (1u64..4).prop_map(Step::Lost),
        (child.clone(), incarnation.clone()).prop_map(|(id, of)| Step::Retry(id, of)),
        (1u64..4).prop_map(Step::Leaves),
        Just(Step::HomeLeaves),
        (child.clone(), incarnation).prop_map(|(id, of)| Step::Left(id, of)),
        child.prop_map(Step::Stop),
        (0usize..2).prop_map(Step::ParentGone),
    ]
}

proptest! {
    /// Every child that came in goes out once; no incarnation starts twice; a child is stopped only where it was
    /// started; a parent is told to fail at most once before it is gone.
    #[test]
    fn no_sequence_of_events_breaks_the_tree(steps in prop::collection::vec(step(), 0..120)) {
        let mut children = Children::default();
        let all = seats(&[1, 2, 3]);
        let mut started = BTreeMap::<(u64, u32), WorkerId>::new();
        let (mut added, mut gone) = (Vec::new(), Vec::new());
        let mut failing = BTreeSet::new();
        for (now, step) in steps.into_iter().enumerate() {
            let moment = at(now as u64 * 1_000);
            let effects = match step {
                Step::Add(parent, name) => {
                    let spec = spec(PARENTS[parent], &name.to_string(), OnFailure::Restart);
                    match children.add(spec, &all) {
                        Ok((id, effects)) => {
                            added.push(id);
                            effects
                        }
                        Err(error) => {
                            prop_assert_eq!(error, AddError::NameTaken);
                            Vec::new()
                        }
                    }
                }
                Step::Started(id, of) => children.started(id, of),
                Step::StartFailed(id, of, true) => {
                    children.start_failed(id, of, StartFailure::Refused("own".to_owned()), moment)
                }
                Step::StartFailed(id, of, false) => {
                    children.start_failed(id, of, StartFailure::Unreachable("gone".to_owned()), moment)
                }
                Step::Failed(id, of) => children.failed(id, of, "boom", moment).1,
                Step::Ended(id, of) => children.ended(id, of, Exit::Stopped),
                Step::Lost(number) => children.worker_lost(worker(number), moment),
                Step::Retry(id, of) => children.retry(id, of, &all),
                Step::Stop(id) => children.stop(id),
                Step::Leaves(number) => {
                    let staying: Vec<Seat> = all.iter().filter(|seat| seat.worker != worker(number)).copied().collect();
                    children.worker_leaves(worker(number), &staying)
                }
                Step::HomeLeaves => children.home_leaves(),
                Step::Left(id, of) => children.left(id, of, &all, moment),
                Step::ParentGone(parent) => {
                    failing.remove(&PARENTS[parent]);
                    children.parent_gone(PARENTS[parent])
                }
            };
            for effect in effects {
                match effect {
                    Effect::Start { child, incarnation, worker } => {
                        prop_assert!(started.insert((child, incarnation), worker).is_none());
                    }
                    Effect::Stop { child, incarnation, worker } | Effect::Leave { child, incarnation, worker, .. } => {
                        prop_assert_eq!(started.get(&(child, incarnation)), Some(&worker));
                    }
                    Effect::Exited { child, .. } => gone.push(child),
                    Effect::Escalate { parent, .. } => prop_assert!(failing.insert(parent)),
                    Effect::Up { .. } | Effect::Down { .. } | Effect::RetryAfter { .. } => {}
                }
            }
            let mut known: Vec<u64> = PARENTS.iter().flat_map(|parent| children.of(*parent)).chain(gone.clone()).collect();
            known.sort_unstable();
            prop_assert_eq!(&known, &added);
        }
    }
}
