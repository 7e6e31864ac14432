//! Budgets of the organisation and of projects, as they are set and shown.

use std::time::{Duration, Instant};

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
    let refused = home.neap(&["budget", "set", "project/Big_Vision", "--max-cost", "5"]).expect(2);
    assert!(refused.stderr.contains("E006"), "{refused:?}");
    home.neap(&["budget", "set", "moon", "--max-cost", "5"]).expect(2);
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

/// A control plane that gives nodes back at once, with two finished jobs of two projects.
fn spent() -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.path()).unwrap();
    std::fs::write(home.path().join("config.yaml"), "idle_release_ms: 200\n").unwrap();
    home.up();
    for project in ["vision", "speech"] {
        home.neap(&["run", "-q", "--wait", &job(&home, &format!("project: {project}"))]).expect(0);
    }
    let started = Instant::now();
    while !home.neap(&["node", "list", "-o", "name"]).expect(0).stdout.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "nodes stay");
        std::thread::sleep(Duration::from_millis(50));
    }
    home
}

#[test]
fn a_bill_sums_to_the_same_whatever_it_is_cut_by() {
    let home = spent();
    let total = &home.neap(&["cost", "-o", "json"]).expect(0).json()["total"]["total_micro_usd"];
    assert!(total.as_u64() > Some(0));
    let cuts = ["project", "job", "actor", "node", "category"];
    for (by, more) in
        cuts.iter().flat_map(|by| [&[][..], &["--resolution", "h"], &["--for", "2d"]].map(|more| (by, more)))
    {
        let bill = home.neap(&[&["cost", "--by", by, "-o", "json"], more].concat()).expect(0).json();
        let parts: u64 =
            bill["parts"].as_array().unwrap().iter().map(|part| part["amount_micro_usd"].as_u64().unwrap()).sum();
        assert_eq!((&bill["total_micro_usd"], parts), (total, total.as_u64().unwrap()), "{by} {more:?}");
    }
    let names = |by: &str| home.neap(&["cost", "--by", by, "-o", "name"]).expect(0).stdout;
    assert_eq!(names("project"), "speech\nvision\n");
    assert!(names("actor").contains("j1/trainer/w1"), "{}", names("actor"));
    let csv = home.neap(&["cost", "--by", "category", "--csv"]).expect(0).stdout;
    assert!(csv.starts_with("category,begins,name,node_time,cost\n") && csv.contains("\nbusy,-,-,"), "{csv}");
    let nothing = home.neap(&["cost", "--for", "2026-01", "--json"]).expect(0).json();
    assert_eq!((&nothing["total_micro_usd"], &nothing["parts"]), (&0.into(), &serde_json::json!([])));
    let wrong = home.neap(&["cost", "--for", "whenever"]).expect(2);
    assert!(wrong.stderr.contains("last month"), "{wrong:?}");
}

#[test]
fn with_too_little_history_a_forecast_says_so_and_counts_what_is_known() {
    let home = spent();
    home.neap(&["budget", "set", "project/vision", "--max-cost", "5"]).expect(0);
    let forecast = home.neap(&["forecast", "--horizon", "7d", "-o", "json"]).expect(0).json();
    assert_eq!(forecast["history_days"], serde_json::Value::Null);
    let scopes = forecast["scopes"].as_array().unwrap();
    assert_eq!(scopes[0]["spend_p90_micro_usd"], 0, "nothing runs and nothing waits: {forecast:#}");
    assert_eq!((&scopes[1]["scope"], &scopes[1]["overspend_chance"]), (&"project/vision".into(), &0.0.into()));
    assert!(scopes[1]["left_micro_usd"].as_u64() < Some(5_000_000), "{forecast:#}");
    let text = home.neap(&["forecast"]).expect(0).stdout;
    assert!(text.contains("too little history") && text.contains("not in sight"), "{text}");
    home.neap(&["forecast", "--horizon", "400d"]).expect(1);
}

#[test]
fn offers_say_what_was_observed_of_them() {
    let home = spent();
    let offers = home.neap(&["offers", "--market", "spot", "-o", "json"]).expect(0).json();
    let offers = offers.as_array().unwrap();
    assert!(offers.iter().all(|offer| offer["market"] == "spot") && offers.len() == 2, "{offers:#?}");
    assert_eq!(offers[0]["name"], "local/small/spot", "the cheapest first");
    assert_eq!(offers[0]["interruptions"], 0);
    assert!(offers[0]["observed_ms"].as_u64() > Some(0), "{offers:#?}");
    let table = home.neap(&["offers"]).expect(0).stdout;
    assert!(table.contains("0.0 per 1,000 h (0 in 0.") && table.contains("not observed yet"), "{table}");
    assert_eq!(home.neap(&["offers", "--gpu", "H100"]).expect(0).stdout, "");
}
