//! What works without a control plane, and what says that there is none.

use expect_test::expect_file;

use crate::support::{Home, done, folder};

#[test]
fn the_examples_are_valid() {
    let home = Home::new();
    for example in ["digits.yaml", "fashion-mnist.yaml", "flights.yaml", "flights-linear.yaml", "flights-late.yaml"] {
        let done = done(home.command(&["validate", example]).current_dir(folder("examples"))).expect(0);
        assert_eq!(done.stdout, format!("{example} is valid\n"));
        assert_eq!(done.stderr, "");
    }
}

#[test]
fn all_faults_are_shown_at_once_each_at_its_place() {
    let home = Home::new();
    let done = done(home.command(&["validate", "faulty.yaml"]).current_dir(folder("tests/cli"))).expect(2);
    assert_eq!(done.stdout, "");
    expect_file!["./faulty.txt"].assert_eq(&done.stderr);
}

#[test]
fn programs_get_the_faults_as_one_document() {
    let home = Home::new();
    let args = ["validate", "faulty.yaml", "-o", "json"];
    let done = done(home.command(&args).current_dir(folder("tests/cli"))).expect(2);
    let document = done.json();
    assert_eq!(document["valid"], false);
    let codes: Vec<&str> =
        document["faults"].as_array().unwrap().iter().map(|fault| fault["code"].as_str().unwrap()).collect();
    for code in ["E004", "E010", "E012", "E013", "E090", "E091", "E017", "E040", "E046"] {
        assert!(codes.contains(&code), "{code} is not in {codes:?}");
    }
}

#[test]
fn a_job_file_can_come_through_a_pipe() {
    let home = Home::new();
    let example = std::fs::File::open(folder("examples/digits.yaml")).unwrap();
    let done = done(home.command(&["validate", "-"]).stdin(example)).expect(0);
    assert_eq!(done.stdout, "<stdin> is valid\n");
}

#[test]
fn files_that_are_no_job_files_are_refused() {
    let home = Home::new();
    home.neap(&["validate", "/nowhere/job.yaml"]).expect(2);
    let done = done(home.command(&["validate", "/dev/zero"]).current_dir("/")).expect(2);
    assert!(done.stderr.contains("E08"), "{done:?}");
    home.neap(&["validate", env!("CARGO_BIN_EXE_neap")]).expect(2);
}

#[test]
fn a_plan_says_what_a_job_will_cost() {
    let home = Home::new();
    let example = folder("examples/digits.yaml").display().to_string();
    let plan = home.neap(&["plan", &example, "-o", "json"]).expect(0).json();
    assert_eq!(plan["samples"], 15 * 1_500);
    assert!(plan["cost_p50_micro_usd"].as_u64() <= plan["cost_p95_micro_usd"].as_u64(), "{plan}");
    assert!(plan["finish_p95_ms"].as_u64() >= plan["work_ms"].as_u64(), "{plan}");
    assert!(home.neap(&["plan", &example]).expect(0).stdout.contains("cost comes from"));
}

#[test]
fn a_plan_that_breaks_a_limit_has_its_own_exit_code() {
    let home = Home::new();
    let job = |lines: &str| {
        let text = std::fs::read_to_string(folder("examples/digits.yaml")).unwrap();
        let text = text.replace("data/digits.csv", &folder("examples/data/digits.csv").display().to_string());
        let path = home.path().with_file_name("job.yaml");
        std::fs::write(&path, format!("{text}\n{lines}\n")).unwrap();
        path.display().to_string()
    };
    home.neap(&["plan", &job("budget: {max_cost: 100}\ndeadline: 1d"), "--detailed-exitcode"]).expect(0);
    let poor = home.neap(&["plan", &job("budget: {max_cost: 0.000001}"), "--detailed-exitcode"]);
    assert!([6, 8].contains(&poor.code), "{poor:?}");
    let late = home.neap(&["plan", &job("deadline: 1s")]).expect(6);
    assert!(late.stderr.contains("E026"), "{late:?}");
}

#[test]
fn traces_are_simulated_and_policies_compared() {
    let home = Home::new();
    let trace = home.path().with_file_name("philly.csv");
    let file = trace.display().to_string();
    std::fs::write(&trace, "vc,submit_s,duration_s,req_gpus\na,0,1000,8\na,1,1000,16\nb,2,10,4\n").unwrap();
    let args = ["simulate", "run", &file, "--nodes", "4", "--policy", "fifo", "-o", "json"];
    let report = home.neap(&args).expect(0).json();
    assert_eq!((&report["jobs"], &report["unfinished"]), (&3.into(), &0.into()));
    assert_eq!(report, home.neap(&args).expect(0).json(), "the same trace and seed give the same report");
    let args = ["simulate", "diff", &file, "--nodes", "4", "--policy", "fifo", "--policy", "backfill", "-o", "json"];
    assert_eq!(home.neap(&args).expect(0).json()["before"], report);
    home.neap(&["simulate", "run", &file, "--policy", "lottery"]).expect(2);
    let refused = home.neap(&["simulate", &file, "--policy", "least_service"]).expect(2);
    assert!(refused.stderr.contains("these do: fifo, backfill, fair_share, priority, goodput"), "{refused:?}");
    std::fs::write(&trace, "vc,submit_s,duration_s,req_gpus\na,0,NaN,8\n").unwrap();
    let refused = home.neap(&["simulate", "run", &file]).expect(2);
    assert!(refused.stderr.contains("philly.csv:2: column duration_s"), "{refused:?}");
}

#[test]
fn the_price_book_is_read_without_a_control_plane() {
    let home = Home::new();
    let rows = home.neap(&["offers", "--book", "--gpu", "h100", "--market", "spot", "-o", "json"]).expect(0).json();
    let rows = rows.as_array().unwrap();
    let prices: Vec<u64> = rows.iter().map(|row| row["spot_micro_usd_per_hour"].as_u64().unwrap()).collect();
    assert!(!prices.is_empty() && prices.is_sorted(), "{prices:?}");
    assert!(rows.iter().all(|row| row["gpu"] == "H100" && row["book_date"] == "2025-10-22" && row["source"] != ""));
    let all = home.neap(&["offers", "--book"]).expect(0);
    assert!(all.stderr.contains("2025-10-22") && all.stdout.lines().count() > 100, "{all:?}");
    let unknown = home.neap(&["offers", "--book", "--gpu", "H1000"]).expect(2);
    assert!(unknown.stderr.contains("did you mean H100?"), "{unknown:?}");
}

#[test]
fn elastic_traces_need_their_profiles_and_a_policy_that_applies() {
    let home = Home::new();
    let profiles = folder("scheduler/tests/data/adaptive").display().to_string();
    let trace = folder("scheduler/tests/data/adaptive/trace.csv").display().to_string();
    let simulate = |more: &[&str]| home.neap(&[&["simulate", &trace, "-o", "json"], more].concat());
    let refused = simulate(&["--policy", "goodput"]).expect(2);
    assert!(refused.stderr.contains("--profiles DIR"), "{refused:?}");
    let with = |more: &[&str]| simulate(&[&["--profiles", &profiles, "--price", "3"], more].concat());
    let goodput = with(&["--policy", "goodput"]).expect(0);
    assert_eq!(goodput.stdout, with(&["--policy", "goodput"]).expect(0).stdout, "byte for byte");
    let (goodput, fifo) = (goodput.json(), with(&["--policy", "fifo"]).expect(0).json());
    assert_eq!((&goodput["jobs"], &goodput["unfinished"]), (&8.into(), &0.into()));
    let mean = |report: &serde_json::Value| report["completion_s"]["mean"].as_f64().unwrap();
    assert!(mean(&goodput) < mean(&fifo) && goodput["cost_micro_usd"].as_u64() > Some(0), "{goodput} {fifo}");
    for (more, said) in [
        (&["--policy", "backfill"][..], "these do: fifo, least_service, goodput"),
        (&["--policy", "lottery"], "no policy is named `lottery`"),
        (&["--policy", "goodput", "--cluster", "tpu:1x8"], "A005 --cluster:1: column gpu: \"tpu\""),
        (&["--policy", "goodput", "--cluster", "aws"], "as in aws:6x4"),
        (&["--policy", "goodput", "--trace-name", "other"], "it has small"),
        (&["--policy", "goodput", "--nodes", "3"], "--cluster TYPE:NODESxGPUS"),
    ] {
        let refused = with(more).expect(2);
        assert!(refused.stderr.contains(said), "{more:?}: {refused:?}");
    }
}

#[test]
fn bad_rows_of_every_kind_of_trace_are_refused_with_their_place() {
    let home = Home::new();
    let file = home.path().with_file_name("bad.csv");
    let trace = file.display().to_string();
    let profiles = folder("scheduler/tests/data/adaptive").display().to_string();
    let nodes = home.path().with_file_name("nodes.csv");
    std::fs::write(&nodes, "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\n").unwrap();
    let nodes = nodes.display().to_string();
    let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n";
    let sia = "trace,job,submit_s,app,req_gpus,req_batch,category\n";
    for (text, more, said) in [
        (
            "vc,submit_s,duration_s,req_gpus\na,5,1,1\na,4,1,1\n".to_owned(),
            [].as_slice(),
            "A009 {}:3: column submit_s: \"4\"",
        ),
        ("vc,submit_s,duration_s,req_gpus\na,5,1e99,1\n".to_owned(), &[], "A004 {}:2: column duration_s"),
        ("LM\tx\tlm\t-s\t1\t9\t-1\tgns\t1\t-1\t9\t5\n".to_owned(), &[], "A003 {}:1: column scale_factor: \"-1\""),
        (
            format!("{pods}p,1,1,1,9,H1000,LS,Running,1,2,\n"),
            &["--cluster", &nodes],
            "A005 {}:2: column gpu_spec: \"H1000\"",
        ),
        (format!("{sia}t,a,NaN,bert,1,12,\n"), &["--profiles", &profiles], "A002 {}:2: column submit_s: \"NaN\""),
        ("what,is,this\n".to_owned(), &[], "{}:1: not a trace that can be simulated"),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = home.neap(&[&["simulate", &trace], more].concat()).expect(2);
        assert!(refused.stderr.contains(&said.replace("{}", &trace)), "{refused:?}");
    }
}

#[test]
fn codes_are_explained() {
    let home = Home::new();
    let text = home.neap(&["explain", "e044"]).expect(0).stdout;
    assert!(text.starts_with("E044: the global batch cannot be cut into equal shards\n\n"), "{text}");
    assert_eq!(home.neap(&["explain", "E044", "-o", "json"]).expect(0).json()["code"], "E044");
    for (code, title) in [("E202", "a negative price"), ("A005", "a GPU type"), ("A009", "the clock goes backwards")] {
        let text = home.neap(&["explain", code]).expect(0).stdout;
        assert!(text.starts_with(&format!("{code}: {title}")), "{text}");
    }
    home.neap(&["explain", "E999"]).expect(2);
}

#[test]
fn without_a_control_plane_commands_exit_with_3_and_say_what_to_do() {
    let home = Home::new();
    let example = folder("examples/digits.yaml").display().to_string();
    let commands: [&[&str]; 16] = [
        &["run", &example],
        &["ps"],
        &["status"],
        &["status", "digits"],
        &["wait", "digits"],
        &["logs", "digits"],
        &["stop", "digits"],
        &["cost"],
        &["cost", "--by", "project"],
        &["forecast"],
        &["offers"],
        &["budget", "list"],
        &["budget", "set", "organisation", "--max-cost", "5"],
        &["node", "list"],
        &["node", "preempt", "n1"],
        &["explain", "digits"],
    ];
    for command in commands {
        let done = home.neap(command).expect(3);
        assert!(done.stderr.contains("neap up"), "{command:?}: {done:?}");
        assert_eq!(done.stdout, "", "{command:?}");
    }
    let document = home.neap(&["ps", "-o", "json"]).expect(3).json();
    assert_eq!(document["error"]["code"], "unavailable");
}

#[test]
fn wrong_usage_exits_with_2() {
    let home = Home::new();
    for command in [
        &["nonsense"][..],
        &["ps", "--nonsense"],
        &["node", "preempt", "7"],
        &["run", "job.yaml", "--wait", "-d"],
        &["up", "--http", "0.0.0.0:7747"],
        &["status", "--exit-code"],
    ] {
        let done = home.neap(command).expect(2);
        assert!(done.stderr.starts_with("error: "), "{command:?}: {done:?}");
    }
}

#[test]
fn the_version_is_one_line() {
    let home = Home::new();
    assert_eq!(home.neap(&["version"]).expect(0).stdout, concat!("neap ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(home.neap(&["version", "-o", "json"]).expect(0).json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_worker_or_an_agent_started_by_hand_says_that_it_should_not_be() {
    let home = Home::new();
    let worker = home.neap(&["worker"]).expect(1);
    assert!(worker.stderr.contains("the worker failed"), "{worker:?}");
    let args = ["agent", "--node", "n1", "--control", "127.0.0.1:9", "--join", "127.0.0.1:9", "--cpu-millis", "1000"];
    let agent = home.neap(&[&args[..], &["--memory-mib", "512", "--folder", "/nowhere"]].concat()).expect(1);
    assert!(agent.stderr.contains("NEAP_JOIN_TOKEN"), "{agent:?}");
}
