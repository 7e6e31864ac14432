//! Job files that are taken, and what becomes of them.

use super::*;
use crate::model::{CpuMillis, Location, MarketChoice, MemoryMib, MicroUsd, MicroUsdPerHour, Millis, NodeSize};

/// The least a job file can say.
pub(super) const SMALL: &str = "\
version: 1
kind: train
data: {train: {uri: digits.csv}}
train: {entry: mlp, epochs: 2}
";

/// A file with every field that is built.
pub(super) const FULL: &str = r#"version: 1
kind: train
name: fashion-mnist
description: "an image classifier"
project: default
labels: {team: vision, owner: ana}

workers: {min: 2, target: 3, max: 4}
resources:
  cpus: 0.5+
  memory: 1GiB..4GiB
placement: {gang: true}
market: spot
max_price: 0.35

elastic: {on_preempt: replace}
retry: {max_restarts: 3}

checkpoint:
  uri: file:///var/lib/neap/ckpt
  every: 100steps
  keep: 5
  on_notice: false

data:
  train: {uri: /usr/share/fashion, format: idx, split: train, shuffle: {seed: 7, window: 4096}, micro_shard: 64, prefetch: 8}
  eval:
    uri: eval.csv.gz
    split: {rows: 10..20}
    label: digit
    shuffle: false

train:
  entry: cnn
  backend: flex
  strategy: ps
  ps: {servers: 1, placement: separate, consistency: sync, compression: topk, topk_share: 0.05}
  global_batch: 64
  logical_shards: 4
  epochs: 5
  determinism: samples
  seed: 42
  params: {lr: 1.0e-3, hidden: 64, optimizer: adam, bias: true}

priority: 700
budget: {max_cost: 120.00, max_cost_per_hour: 4.5, warn_at: 0.9, on_exceed: stop}
deadline: 1h30m
objective: min_time
"#;

fn accepted(text: &str) -> JobSpec {
    let parsed = parse(text, &context()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(parsed.warnings, []);
    parsed.spec
}

#[test]
fn the_smallest_file_gets_the_defaults() {
    let spec = accepted(SMALL);
    assert_eq!(spec.name, None);
    assert_eq!(spec.workers, WorkerRange { min: 1, target: 1, max: 1 });
    assert_eq!(spec.resources, NodeSize { cpus: CpuMillis(1_000), memory: MemoryMib(954) });
    assert_eq!((spec.market, spec.max_price), (MarketChoice::OnDemand, None));
    assert_eq!((spec.priority, spec.budget, spec.deadline, spec.objective), (500, None, None, Objective::MinCost));
    assert_eq!((spec.on_preempt, spec.max_restarts), (OnPreempt::Shrink, 0));
    let checkpoint = CheckpointSpec { place: None, every: CheckpointEvery::Auto, keep: 3, on_notice: true };
    assert_eq!(spec.checkpoint, checkpoint);
    let digits = DataSpec {
        path: "/jobs/digits.csv".to_owned(),
        format: DataFormat::Csv,
        part: DataPart::All,
        label: None,
        target: None,
        columns: ColumnSpec::default(),
        order: OrderSpec { seed: Some(0), window: None, micro_shard: 256 },
        prefetch: 4,
        locality: Locality::Prefer,
    };
    assert_eq!(spec.data, [("train".to_owned(), digits)].into());
    let params = [
        ("hidden".to_owned(), ParamValue::Int(128)),
        ("lr".to_owned(), ParamValue::Float(0.1)),
        ("optimizer".to_owned(), ParamValue::Text("sgd".to_owned())),
    ];
    let train = TrainSpec {
        entry: "mlp".to_owned(),
        artifact: None,
        backend: Backend::Flex,
        strategy: Strategy::ParameterServer,
        server: ServerPlacement::Colocated,
        servers: 1,
        replicas: 0,
        compression: None,
        consistency: Consistency::Sync,
        global_batch: 128,
        logical_shards: 8,
        micro_batch: None,
        length: TrainLength::Epochs(2),
        determinism: Determinism::Strict,
        seed: 0,
        init: None,
        params: params.into(),
    };
    assert_eq!(spec.train(), Some(&train));
}

#[test]
fn every_field_arrives() {
    let spec = accepted(FULL);
    assert_eq!(spec.name.as_deref(), Some("fashion-mnist"));
    assert_eq!(spec.description, "an image classifier");
    assert_eq!(spec.labels["owner"], "ana");
    assert_eq!(spec.workers, WorkerRange { min: 2, target: 3, max: 4 });
    assert_eq!(spec.resources, NodeSize { cpus: CpuMillis(500), memory: MemoryMib(1024) });
    assert_eq!((spec.market, spec.max_price), (MarketChoice::Spot, Some(MicroUsdPerHour::new(350_000))));
    let budget = BudgetSpec {
        max_cost: Some(MicroUsd::new(120_000_000)),
        max_cost_per_hour: Some(MicroUsdPerHour::new(4_500_000)),
        warn_at_permille: 900,
        on_exceed: OnExceed::Stop,
    };
    assert_eq!((spec.priority, spec.budget), (700, Some(budget)));
    assert_eq!((spec.deadline, spec.objective), (Some(Deadline::After(Millis::from_secs(5_400))), Objective::MinTime));
    assert_eq!((spec.on_preempt, spec.max_restarts), (OnPreempt::Replace, 3));
    assert_eq!(spec.checkpoint.place.as_ref().map(|place| place.to_string()).as_deref(), Some("/var/lib/neap/ckpt"));
    assert_eq!((spec.checkpoint.every, spec.checkpoint.keep), (CheckpointEvery::Steps(100), 5));
    assert!(!spec.checkpoint.on_notice);
    assert_eq!((spec.data["train"].format, &spec.data["train"].part), (DataFormat::Idx, &DataPart::Train));
    assert_eq!(spec.data["train"].order, OrderSpec { seed: Some(7), window: Some(4096), micro_shard: 64 });
    assert_eq!((spec.data["train"].prefetch, spec.data["eval"].prefetch), (8, 4));
    assert_eq!((spec.data["eval"].path.as_str(), spec.data["eval"].order.seed), ("/jobs/eval.csv.gz", None));
    assert_eq!(spec.data["eval"].part, DataPart::Rows { from: 10, to: 20 });
    assert_eq!(spec.data["eval"].label.as_deref(), Some("digit"));
    assert_eq!((spec.train().unwrap().server, spec.train().unwrap().servers), (ServerPlacement::Separate, 1));
    assert_eq!(spec.train().unwrap().compression, Some(Compression::TopK { share: 0.05 }));
    assert_eq!(
        (spec.train().unwrap().global_batch, spec.train().unwrap().logical_shards, spec.train().unwrap().seed),
        (64, 4, 42)
    );
    assert_eq!(
        (spec.train().unwrap().length, spec.train().unwrap().determinism),
        (TrainLength::Epochs(5), Determinism::Samples)
    );
    assert_eq!(spec.train().unwrap().params["lr"], ParamValue::Float(0.001));
    assert_eq!(spec.train().unwrap().params["bias"], ParamValue::Bool(true));
}

#[test]
fn workers_in_every_form() {
    let cases = [
        ("4", (4, 4, 4)),
        ("2..8", (2, 8, 8)),
        ("\"2..8\"", (2, 8, 8)),
        ("{min: 2}", (2, 2, 2)),
        ("{max: 3}", (1, 3, 3)),
        ("{target: 3}", (1, 3, 3)),
        ("{min: 1, target: 2, max: 5}", (1, 2, 5)),
    ];
    for (text, (min, target, max)) in cases {
        let spec = accepted(&format!("{SMALL}workers: {text}\n"));
        assert_eq!(spec.workers, WorkerRange { min, target, max }, "{text}");
    }
}

#[test]
fn checkpoints_in_every_form() {
    let cases = [
        ("auto", CheckpointEvery::Auto),
        ("10m", CheckpointEvery::Time(Millis::from_secs(600))),
        ("1h30m", CheckpointEvery::Time(Millis::from_secs(5_400))),
        ("none", CheckpointEvery::Never),
        ("1epoch", CheckpointEvery::Epochs(1)),
        ("3epochs", CheckpointEvery::Epochs(3)),
        ("100steps", CheckpointEvery::Steps(100)),
        ("1step", CheckpointEvery::Steps(1)),
    ];
    for (text, every) in cases {
        assert_eq!(accepted(&format!("{SMALL}checkpoint: {{every: {text}}}\n")).checkpoint.every, every, "{text}");
    }
}

#[test]
fn weights_to_begin_with() {
    let init =
        "{uri: w/model.pt, rename: {fc1: layer1, model: \"\"}, fresh: [head], ignore: [fc9], freeze: [layer1, a.b]}";
    let spec = accepted(&SMALL.replace("epochs: 2}", &format!("epochs: 2, init: {init}}}")));
    let plain = accepted(SMALL);
    assert_eq!(plain.train().unwrap().init, None);
    assert_ne!(spec.canonical(), plain.canonical(), "they decide the result");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let wanted = InitSpec {
        path: "/jobs/w/model.pt".to_owned(),
        rename: [("fc1", "layer1"), ("model", "")].map(|(from, to)| (from.to_owned(), to.to_owned())).into(),
        fresh: names(&["head"]),
        ignore: names(&["fc9"]),
        freeze: names(&["layer1", "a.b"]),
    };
    assert_eq!(spec.train().unwrap().init, Some(wanted));
}

#[test]
fn an_exchange_without_waiting_is_not_strict() {
    let cases = [
        ("{consistency: sync}", Consistency::Sync, Determinism::Strict),
        ("{consistency: ssp}", Consistency::Ssp { staleness: 4 }, Determinism::Samples),
        ("{consistency: ssp, staleness: 0}", Consistency::Ssp { staleness: 0 }, Determinism::Samples),
        ("{consistency: async}", Consistency::Async, Determinism::Samples),
    ];
    for (ps, consistency, determinism) in cases {
        let spec = accepted(&SMALL.replace("epochs: 2", &format!("epochs: 2, ps: {ps}")));
        let train = spec.train().unwrap();
        assert_eq!((train.consistency, train.determinism), (consistency, determinism), "{ps}");
    }
}

#[test]
fn deadlines_are_times_or_moments() {
    let cases = [
        ("18h", Deadline::After(Millis::from_secs(64_800))),
        ("2027-01-31T18:00:00Z", Deadline::At(Millis::from_secs(1_801_418_400))),
    ];
    for (text, deadline) in cases {
        let spec = accepted(&format!("{SMALL}deadline: {text}\n"));
        assert_eq!(spec.deadline, Some(deadline), "{text}");
    }
    assert_eq!(Deadline::After(Millis::new(5)).moment(Millis::new(7)), Millis::new(12));
    assert_eq!(Deadline::At(Millis::new(5)).moment(Millis::new(7)), Millis::new(5));
}

#[test]
fn the_format_follows_from_the_name() {
    let cases = [
        ("a.csv", DataFormat::Csv),
        ("a.csv.gz", DataFormat::Csv),
        ("train-images-idx3-ubyte.gz", DataFormat::Idx),
        ("/usr/share/dataset/fashion-mnist/", DataFormat::Idx),
        ("a.idx", DataFormat::Idx),
        ("a.jsonl.gz", DataFormat::Jsonl),
        ("a.ndjson", DataFormat::Jsonl),
        ("parts/2013-*.parquet", DataFormat::Parquet),
        ("a.feather", DataFormat::Arrow),
        ("a.arrow", DataFormat::Arrow),
    ];
    for (uri, format) in cases {
        assert_eq!(accepted(&SMALL.replace("digits.csv", uri)).data["train"].format, format, "{uri}");
    }
}

#[test]
fn compressed_gradients_are_not_strict_and_change_the_result() {
    let job = |ps: &str| accepted(&SMALL.replace("epochs: 2", &format!("epochs: 2, ps: {ps}")));
    let whole = job("{}");
    for (ps, compression) in [
        ("{compression: bf16}", Compression::Bf16),
        ("{compression: topk}", Compression::TopK { share: 0.01 }),
        ("{compression: topk, topk_share: 1}", Compression::TopK { share: 1.0 }),
    ] {
        let compressed = job(ps);
        assert_eq!(compressed.train().unwrap().compression, Some(compression));
        assert_eq!(compressed.train().unwrap().determinism, Determinism::Samples);
        assert_ne!(compressed.canonical(), whole.canonical());
    }
    assert_ne!(job("{compression: topk}").canonical(), job("{compression: topk, topk_share: 0.1}").canonical());
}

#[test]
fn an_all_reduce_is_strict_or_not() {
    let train = |lines: &str| accepted(&SMALL.replace("epochs: 2", lines)).train().unwrap().clone();
    let strict = train("epochs: 2, strategy: allreduce");
    assert_eq!((strict.strategy, strict.determinism), (Strategy::AllReduce, Determinism::Strict));
    let ring = train("epochs: 2, strategy: allreduce, determinism: samples");
    assert_eq!((ring.strategy, ring.determinism), (Strategy::AllReduce, Determinism::Samples));
}

#[test]
fn a_table_says_what_its_columns_mean() {
    let data = "\
data:
  train:
    uri: flights-*.parquet
    label: arr_delay
    target: value
    ignore: [tailnum, time_hour]
    categories: [month]
    split: {hash: 0.1, by: flight}
  eval: {uri: flights-*.parquet, label: arr_delay, split: {hash: 0.1, by: flight}}
";
    let text = SMALL.replace("data: {train: {uri: digits.csv}}\n", data);
    let spec = accepted(&text);
    let (train, eval) = (&spec.data["train"], &spec.data["eval"]);
    assert_eq!((train.path.as_str(), train.format), ("/jobs/flights-*.parquet", DataFormat::Parquet));
    assert_eq!(train.target, Some(TargetKind::Value));
    let columns = ColumnSpec {
        only: Vec::new(),
        ignore: vec!["tailnum".to_owned(), "time_hour".to_owned()],
        categories: vec!["month".to_owned()],
    };
    assert_eq!((&train.columns, &eval.columns), (&columns, &ColumnSpec::default()));
    let side = |side| DataPart::Hash(HashSplit { share_ppm: 100_000, by: Some("flight".to_owned()), side });
    assert_eq!((&train.part, &eval.part), (&side(HashSide::Rest), &side(HashSide::Share)));
    let canonical = spec.canonical();
    for line in [
        "data.eval.part = the share of 100000 ppm by the hash of column \"flight\"",
        "data.train.categories = {\"month\"}",
        "data.train.ignore = {\"tailnum\", \"time_hour\"}",
        "data.train.part = all but the share of 100000 ppm by the hash of column \"flight\"",
        "data.train.target = value",
    ] {
        assert!(canonical.lines().any(|found| found == line), "{line} is not in\n{canonical}");
    }
}

#[test]
fn the_folder_of_a_pattern_must_be_there() {
    let place = |uri: &str| accepted(&SMALL.replace("digits.csv", uri)).data["train"].place().to_owned();
    assert_eq!(place("a/b.csv"), "/jobs/a/b.csv");
    assert_eq!(place("a/b-?.csv"), "/jobs/a");
    assert_eq!(place("a-*/b.csv"), "/jobs");
    assert_eq!(place("/*.csv"), "/");
}

#[test]
fn data_may_lie_in_an_object_store() {
    let train = |uri: &str| accepted(&SMALL.replace("digits.csv", &format!("\"{uri}\""))).data["train"].clone();
    for (uri, path, format, place) in [
        ("s3://b/d/x.csv.gz", "s3://b/d/x.csv.gz", DataFormat::Csv, "s3://b/d/x.csv.gz"),
        ("gs://b//d/", "gs://b/d", DataFormat::Idx, "gs://b/d"),
        ("az://b/20*/x-?.parquet", "az://b/20*/x-?.parquet", DataFormat::Parquet, "az://b"),
    ] {
        let data = train(uri);
        assert_eq!((data.path.as_str(), data.format, data.place()), (path, format, place));
        assert_eq!(data.remote().unwrap().to_string(), path);
    }
    assert_eq!(train("/data/x.csv").remote(), None);
    let locality = |text: &str| accepted(&SMALL.replace("digits.csv", text)).data["train"].locality;
    assert_eq!(locality("digits.csv, locality: require"), Locality::Require);
    assert_eq!(locality("digits.csv, locality: ignore"), Locality::Ignore);
}

#[test]
fn how_far_ahead_and_where_data_is_read_is_no_part_of_the_result() {
    let canonical = |text: &str| accepted(&SMALL.replace("digits.csv", text)).canonical();
    assert_eq!(canonical("digits.csv, prefetch: 9"), canonical("digits.csv"));
    assert_eq!(canonical("digits.csv, locality: require"), canonical("digits.csv"));
    assert_ne!(canonical("digits.csv, shuffle: {window: 512}"), canonical("digits.csv"));
    assert_eq!(canonical("digits.csv, micro_shard: 2"), canonical("digits.csv"));
}

#[test]
fn json_is_yaml() {
    let text = r#"{"version": 1, "kind": "train", "data": {"train": {"uri": "digits.csv"}},
        "train": {"entry": "mlp", "steps": 10, "params": {"lr": 1}}}"#;
    let spec = accepted(text);
    assert_eq!(spec.train().unwrap().length, TrainLength::Steps(10));
    assert_eq!(spec.train().unwrap().params["lr"], ParamValue::Float(1.0));
}

#[test]
fn own_actors_have_a_main_function_and_no_data() {
    let text = "version: 1\nkind: actors\nworkers: 2..4\ncheckpoint: {uri: states}\n\
                actors:\n  main: word-count\n  params: {chunks: 40, share: 0.5, text: \"7\", path: a/b, deep: true}\n";
    let spec = accepted(text);
    let params = [
        ("chunks", ParamValue::Int(40)),
        ("share", ParamValue::Float(0.5)),
        ("text", ParamValue::Text("7".to_owned())),
        ("path", ParamValue::Text("a/b".to_owned())),
        ("deep", ParamValue::Bool(true)),
    ];
    let params = params.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(spec.work, Work::Actors(ActorsSpec { main: "word-count".to_owned(), artifact: None, params }));
    assert_eq!((spec.data.len(), &spec.checkpoint.place), (0, &Some(Location::Local("/jobs/states".into()))));
    let canonical = "neap job 1\nactors.main = \"word-count\"\nactors.params.\"chunks\" = 40\nactors.params.\"deep\" = true\n\
                     actors.params.\"path\" = \"a/b\"\nactors.params.\"share\" = 0.5\nactors.params.\"text\" = \"7\"\n";
    assert_eq!(spec.canonical(), canonical);
    // Where nobody knows which there are, as when a journal is read again, any main function is taken.
    let unknown = ParseContext { mains: None, ..context() };
    assert!(parse(&text.replace("word-count", "other"), &unknown).is_ok());
}

#[test]
fn a_byte_order_mark_and_line_ends_of_other_systems_are_taken() {
    let small = accepted(SMALL);
    assert_eq!(accepted(&format!("\u{feff}{SMALL}")), small);
    assert_eq!(accepted(&SMALL.replace('\n', "\r\n")), small);
    assert_eq!(accepted(&format!("---\n{SMALL}...\n")), small);
}

#[test]
fn the_canonical_text_covers_the_result_and_nothing_else() {
    let wanted = "\
neap job 1
data.train.format = csv
data.train.part = all
data.train.path = \"/jobs/digits.csv\"
data.train.shuffle_seed = 0
train.determinism = strict
train.entry = \"mlp\"
train.global_batch = 128
train.length = 2 epochs
train.logical_shards = 8
train.params.\"hidden\" = 128
train.params.\"lr\" = 0.1
train.params.\"optimizer\" = \"sgd\"
train.seed = 0
";
    let same = [
        SMALL.to_owned(),
        format!(
            "{SMALL}workers: 1..8\nname: other\nlabels: {{a: b}}\nmarket: spot\ncheckpoint: {{every: none}}\npriority: 3\ndeadline: 1d\nbudget: {{max_cost: 3}}\n"
        ),
        SMALL.replace(
            "epochs: 2",
            "epochs: 2, params: {lr: 0.10, optimizer: sgd}, ps: {placement: separate, servers: 3}",
        ),
        SMALL.replace("epochs: 2", "epochs: 2, params: {lr: 0.10, optimizer: sgd}, ps: {replicas: 1}"),
        SMALL.replace("epochs: 2", "epochs: 2, strategy: allreduce, determinism: strict"),
    ];
    for text in same {
        assert_eq!(accepted(&text).canonical(), wanted, "{text}");
    }
    for other in ["seed: 1", "ps: {consistency: async}", "ps: {consistency: ssp}"] {
        assert_ne!(accepted(&SMALL.replace("epochs: 2", &format!("epochs: 2, {other}"))).canonical(), wanted);
    }
}

#[test]
fn servers_are_counted() {
    let servers =
        |ps: &str| accepted(&SMALL.replace("epochs: 2", &format!("epochs: 2, ps: {ps}"))).train().unwrap().servers;
    assert_eq!((servers("{servers: 3}"), servers("{placement: separate}")), (3, 1));
    let replicas =
        |ps: &str| accepted(&SMALL.replace("epochs: 2", &format!("epochs: 2, ps: {ps}"))).train().unwrap().replicas;
    assert_eq!((replicas("{replicas: 1}"), replicas("{replicas: 0, servers: 3}"), replicas("{}")), (1, 0, 0));
}

#[test]
fn a_micro_batch_is_part_of_the_result_where_it_cuts_a_shard() {
    let with = |micro: u32| accepted(&SMALL.replace("epochs: 2", &format!("epochs: 2, micro_batch: {micro}")));
    let (whole, cut) = (accepted(SMALL).canonical(), with(5));
    assert_eq!(cut.train().unwrap().micro_batch, Some(5));
    assert!(cut.canonical().contains(
        "
train.micro_batch = 5
"
    ));
    // A logical shard has 16 samples of each step.
    assert_eq!(with(16).canonical(), whole);
    assert_ne!(with(15).canonical(), whole);
}

#[test]
fn the_backend_is_part_of_the_result_where_it_is_not_the_processor() {
    let job = |backend: &str| accepted(&SMALL.replace("entry: mlp", &format!("entry: mlp{backend}")));
    let plain = job("");
    assert_eq!(plain.train().unwrap().backend, Backend::Flex);
    assert_eq!(job(", backend: flex").canonical(), plain.canonical());
    for (word, backend) in [("wgpu", Backend::Wgpu), ("cuda", Backend::Cuda)] {
        let spec = job(&format!(", backend: {word}"));
        assert_eq!(spec.train().unwrap().backend, backend);
        assert!(spec.canonical().lines().any(|line| line == format!("train.backend = {word}")), "{word}");
        assert_ne!(spec.canonical(), plain.canonical());
    }
}
