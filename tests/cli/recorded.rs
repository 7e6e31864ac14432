//! What `neap simulate` makes of rounds that a control plane recorded. The rounds are those of a simulated one.

use neap_scheduler::model::{CpuMillis, Gpus, Market, MemoryMib, MicroUsdPerHour, Millis, NodeSize};
use neap_scheduler::policy::Fifo;
use neap_scheduler::replay::RoundRecord;
use neap_scheduler::sim::cluster::{Provider, Settings, SimJob, World, simulate_watched};

use crate::support::Home;

/// Some jobs of different priority on two nodes, first come, first served, a line a round.
fn lines() -> Vec<String> {
    let size = NodeSize { cpus: CpuMillis(1_000), memory: MemoryMib(512) };
    let offer = Provider {
        name: "local/small/od".to_owned(),
        size,
        gpus: Gpus::default(),
        market: Market::OnDemand,
        price: MicroUsdPerHour::new(360_000),
        billing_min: Millis::ZERO,
        quota: 2,
        boot: (Millis::from_secs(10), Millis::from_secs(10)),
        failing_permille: 0,
        interruptions_per_1000_h: 0,
        notice: Millis::ZERO,
    };
    let job = |number: u64| SimJob {
        need: size,
        priority: 100 * (number as u16 % 5),
        checkpoint_every: Some(Millis::from_secs(1)),
        ..SimJob::rigid(format!("job-{number}"), Millis::from_secs(1_000 + number * 60), 1, Millis::from_secs(300))
    };
    let world = World {
        jobs: (0..9).map(job).collect(),
        nodes: Vec::new(),
        providers: vec![offer],
        settings: Settings::default(),
    };
    let mut lines = Vec::new();
    simulate_watched(&world, &Fifo, &mut |snapshot, plan| {
        if !plan.actions.is_empty() {
            lines.push(RoundRecord::new(&Fifo, snapshot, plan).to_line() + "\n");
        }
    });
    lines
}

#[test]
fn another_policy_is_tried_on_recorded_rounds() {
    let home = Home::new();
    std::fs::create_dir_all(home.path()).unwrap();
    let lines = lines();
    std::fs::write(home.path().join("rounds.old.jsonl"), lines[..3].concat()).unwrap();
    std::fs::write(home.path().join("rounds.jsonl"), lines[3..].concat()).unwrap();
    let folder = home.path().display().to_string();
    let page = home.path().join("report.html").display().to_string();
    let diff = |first: &str, second: &str| {
        let args =
            ["simulate", "diff", &folder, "--policy", first, "--policy", second, "-o", "json", "--report", &page];
        home.neap(&args).expect(0).json()
    };
    let same = diff("fifo", "fifo");
    assert_eq!((&same["before"], &same["jobs"]), (&same["after"], &serde_json::json!([])));
    assert_eq!(same["recording"]["rounds"], lines.len());
    let other = diff("fifo", "priority");
    assert_eq!(other["before"], same["before"], "the same world whatever it is compared with");
    assert!(!other["jobs"].as_array().unwrap().is_empty(), "{other}");
    let plans = other["recording"]["plans"].as_array().unwrap();
    assert_eq!(plans[0]["differing"], 0, "it was recorded under fifo");
    assert!(plans[1]["differing"].as_u64() > Some(0), "{plans:?}");
    let first = &plans[1]["first"];
    assert_ne!(first["only_recorded"], first["only_planned"], "{first}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("priority would have planned otherwise in "));
    let replayed = home.neap(&["simulate", "replay", &folder, "-o", "json"]).expect(0).json();
    assert_eq!(replayed, serde_json::json!({ "rounds": lines.len(), "differing_lines": [] }));
}

#[test]
fn a_torn_last_line_is_noted_and_a_broken_one_refused() {
    let home = Home::new();
    let file = home.path().with_file_name("rounds.jsonl");
    let path = file.display().to_string();
    let lines = lines();
    std::fs::write(&file, lines.concat().trim_end_matches("}\n")).unwrap();
    let replayed = home.neap(&["simulate", "replay", &path, "-o", "json"]).expect(0);
    assert_eq!(replayed.json()["rounds"], lines.len() - 1);
    assert!(replayed.stderr.contains(&format!("{path}:{}: cut short", lines.len())), "{replayed:?}");
    let diff = ["simulate", "diff", &path, "--policy", "fifo", "--policy", "backfill"];
    assert!(home.neap(&diff).expect(0).stderr.contains("cut short"));
    std::fs::write(&file, lines.concat().replacen("\"plan\"", "plan", 2)).unwrap();
    for args in [&["simulate", "replay", &path][..], &diff] {
        let refused = home.neap(args).expect(2);
        assert!(refused.stderr.contains(&format!("{path}:1: not a record of a round")), "{refused:?}");
    }
    let refused = home.neap(&["simulate", &path, "--policy", "goodput"]).expect(2);
    assert!(refused.stderr.contains(":1: not a record"), "{refused:?}");
}
