//! Budgets of the organisation and of projects, as they are set and shown.

use crate::support::{Home, folder, kill};

fn job(home: &Home, lines: &str) -> String {
    let text = std::fs::read_to_string(folder("examples/digits.yaml")).unwrap();
    let text = text.replace("data/digits.csv", &folder("examples/data/digits.csv").display().to_string());
    let path = home.path().with_file_name("job.yaml");
    std::fs::write(&path, format!("{text}\n{lines}\n")).unwrap();
    path.display().to_string()
}

#[test]
fn budgets_are_set_part_by_part_and_outlive_a_crash() {
    let home = Home::new();
    let plane = home.up();
    home.neap(&["budget", "set", "project/vision", "--max-cost", "500"]).expect(0);
    home.neap(&["budget", "set", "project/vision", "--max-cost", "50", "--period", "month", "--warn-at", "0.5"])
        .expect(0);
    home.neap(&["budget", "set", "organisation", "--max-cost-per-hour", "4.5"]).expect(0);
    kill(plane.pid);
    home.up();
    let vision = home.neap(&["budget", "show", "project/vision", "-o", "json"]).expect(0).json();
    assert_eq!(vision["max_cost_micro_usd"], 500_000_000);
    assert_eq!(vision["max_cost_micro_usd_per_month"], 50_000_000);
    assert_eq!((&vision["warn_at"], &vision["left_micro_usd"]), (&0.5.into(), &50_000_000.into()));
    assert_eq!(home.neap(&["budget", "list", "-o", "name"]).expect(0).stdout, "organisation\nproject/vision\n");
    let shown = home.neap(&["budget", "show", "organisation"]).expect(0).stdout;
    assert!(shown.contains("$4.50/h"), "{shown}");
    home.neap(&["budget", "set", "project/vision", "--none"]).expect(0);
    assert_eq!(home.neap(&["budget", "list", "-o", "name"]).expect(0).stdout, "organisation\n");
}

#[test]
fn amounts_and_scopes_that_make_no_sense_are_refused() {
    let home = Home::new();
    home.up();
    for amount in ["0", "-5", "NaN", "1e9", "99999999999999999999"] {
        let refused = home.neap(&["budget", "set", "organisation", "--max-cost", amount]).expect(2);
        assert!(refused.stderr.contains("E021"), "{amount}: {refused:?}");
    }
    home.neap(&["budget", "set", "organisation", "--warn-at", "2"]).expect(2);
    home.neap(&["budget", "set", "organisation"]).expect(2);
    let refused = home.neap(&["budget", "set", "project/Big_Vision", "--max-cost", "5"]).expect(1);
    assert!(refused.stderr.contains("E006"), "{refused:?}");
    home.neap(&["budget", "set", "moon", "--max-cost", "5"]).expect(1);
    home.neap(&["budget", "show", "moon"]).expect(102);
    assert_eq!(home.neap(&["budget", "list", "-o", "json"]).expect(0).stdout, "[]\n");
}

#[test]
fn a_job_that_may_cost_more_than_is_left_is_refused() {
    let home = Home::new();
    home.up();
    home.neap(&["budget", "set", "project/vision", "--max-cost", "20"]).expect(0);
    let greedy = job(&home, "project: vision\nbudget: {max_cost: 20.01}");
    let refused = home.neap(&["run", "-d", &greedy]).expect(7);
    assert!(refused.stderr.contains("error[E022]") && refused.stderr.contains("project vision"), "{refused:?}");
    home.neap(&["run", "-d", &job(&home, "project: vision\nbudget: {max_cost: 20}")]).expect(0);
    assert!(home.neap(&["explain", "E022"]).expect(0).stdout.contains("neap budget"));
}

#[test]
fn a_job_that_will_hardly_do_with_its_budget_is_refused_unless_forced() {
    let home = Home::new();
    home.up();
    let long = |name: &str, epochs: &str| {
        let path = job(&home, "budget: {max_cost: 0.05}");
        let text = std::fs::read_to_string(&path).unwrap().replace("epochs: 15", epochs);
        let text = text.replace("name: digits", &format!("name: {name}"));
        assert!(text.contains(epochs) && text.contains(name), "{text}");
        std::fs::write(&path, text).unwrap();
        path
    };
    let refused = home.neap(&["run", "-d", &long("digits-long", "epochs: 100000000")]).expect(7);
    assert!(refused.stderr.contains("error[E023]") && refused.stderr.contains("--force"), "{refused:?}");
    home.neap(&["run", "-q", "-d", &long("digits-quiet", "epochs: 100000000")]).expect(7);
    home.neap(&["run", "-d", "--force", &long("digits-forced", "epochs: 100000000")]).expect(0);
    home.neap(&["stop", "digits-forced", "--now"]).expect(0);
}

#[test]
fn without_a_terminal_the_plan_is_shown_and_nobody_is_asked() {
    let home = Home::new();
    home.up();
    let shown = home.neap(&["run", "-d", &job(&home, "")]).expect(0);
    assert!(shown.stderr.contains("cost") && shown.stderr.contains("P95"), "{shown:?}");
    assert!(!shown.stderr.contains("[Y/n]"), "{shown:?}");
    home.neap(&["wait", "digits"]).expect(0);
    let quiet = home.neap(&["run", "-q", "--wait", &job(&home, "")]).expect(0);
    assert_eq!(quiet.stderr, "");
}
