//! What the examples print.

use std::process::Command;

use crate::example;
use crate::support::done;

#[test]
fn a_model_of_ones_own_is_trained_by_a_job_that_brings_it_along() {
    let shown = done(&mut Command::new(example("custom_model"))).expect(0);
    let accuracy =
        shown.stdout.lines().find_map(|line| line.strip_prefix("accuracy ")).unwrap_or_else(|| panic!("{shown:?}"));
    let (accuracy, cost) = accuracy.split_once(" for $").unwrap();
    assert!(accuracy.parse::<f64>().unwrap() > 0.85, "{shown:?}");
    assert!(cost.parse::<f64>().unwrap() > 0.0, "{shown:?}");
    assert!(shown.stderr.contains("handing in"), "{shown:?}");
}

#[test]
fn actors_of_ones_own_count_words_and_leave_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let shown = done(Command::new(example("custom_actor")).env("TMPDIR", temp.path())).expect(0);
    assert!(shown.stdout.contains("word-count") && shown.stdout.contains('$'), "no bill: {shown:?}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn what_was_learnt_on_digits_helps_with_their_loops() {
    let shown = done(&mut Command::new(example("transfer_learning"))).expect(0);
    let accuracy = |beginning: &str| -> f64 {
        let line = shown.stdout.lines().find(|line| line.starts_with(beginning)).unwrap_or_else(|| panic!("{shown:?}"));
        line.rsplit_once("accuracy ").unwrap().1.parse().unwrap()
    };
    let (transferred, alone) =
        (accuracy("loops, 24 samples, lower layers"), accuracy("loops, 24 samples, from nothing"));
    assert!(accuracy("digits, 800 samples") > 0.9, "{shown:?}");
    assert!(transferred > alone && transferred > 0.8, "{shown:?}");
}

#[test]
fn a_policy_of_ones_own_is_compared_with_those_built_in() {
    let shown = done(&mut Command::new(example("custom_policy"))).expect(0);
    let wait = |policy: &str| -> f64 {
        let line = shown.stdout.lines().find(|line| line.starts_with(policy)).unwrap_or_else(|| panic!("{shown:?}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // One seed-free world: the figures are always the same, and short jobs no longer wait for long ones.
    assert!(wait("response_ratio") < wait("fifo"), "{shown:?}");
    assert!(wait("turnaround") > 0.0);
}
