//! Whatever the text, the parser answers; and whatever is wrong, it says so.

use proptest::prelude::*;

use super::accepted::{FULL, SMALL};
use super::*;

/// A fault that can be planted in the complete file: what is replaced, by what, and which fault must come of it.
type Plant = (&'static str, &'static str, Code, &'static str);

/// Faults that do not touch each other, one per field.
const PLANTS: &[Plant] = &[
    ("version: 1", "version: 7", Code::Version, "version"),
    ("kind: train", "kind: trian", Code::Kind, "kind"),
    ("name: fashion-mnist", "name: Fashion", Code::Name, "name"),
    ("project: default", "project: Vision", Code::Project, "project"),
    ("owner: ana", "owner: 7", Code::WrongType, "labels.owner"),
    ("min: 2,", "min: 9,", Code::Workers, "workers"),
    ("cpus: 0.5+", "cpus: none", Code::Cpus, "resources.cpus"),
    ("1GiB..4GiB", "16", Code::Memory, "resources.memory"),
    ("gang: true", "gang: 1", Code::WrongType, "placement.gang"),
    ("market: spot", "market: both", Code::BadValue, "market"),
    ("priority: 700", "priority: high", Code::WrongType, "priority"),
    ("warn_at: 0.9", "warn_at: 9", Code::Budget, "budget.warn_at"),
    ("deadline: 1h30m", "deadline: later", Code::Deadline, "deadline"),
    ("objective: min_time", "objective: max", Code::BadValue, "objective"),
    ("max_price: 0.35", "max_price: -1", Code::MaxPrice, "max_price"),
    ("on_preempt: replace", "on_preemt: replace", Code::UnknownKey, "elastic.on_preemt"),
    ("max_restarts: 3", "max_restarts: x", Code::WrongType, "retry.max_restarts"),
    ("file:///var", "s3://key:secret@var", Code::CheckpointUri, "checkpoint.uri"),
    ("every: 100steps", "every: 100", Code::CheckpointEvery, "checkpoint.every"),
    ("keep: 5", "keep: 0", Code::BadValue, "checkpoint.keep"),
    ("split: train", "split: dev", Code::BadValue, "data.train.split"),
    ("    uri: eval.csv.gz\n", "    format: csv\n", Code::DataMissing, "data.eval.uri"),
    ("label: digit", "labl: digit", Code::UnknownKey, "data.eval.labl"),
    ("entry: cnn", "entry: vit", Code::UnknownEntry, "train.entry"),
    ("backend: flex", "backend: gpu", Code::BadValue, "train.backend"),
    ("placement: separate", "placement: moon", Code::BadValue, "train.ps.placement"),
    ("global_batch: 64", "global_batch: 63", Code::BatchNotDivisible, "train.global_batch"),
    ("epochs: 5", "epochs: 5\n  steps: 5", Code::Length, "train.steps"),
    ("determinism: samples", "determinism: maybe", Code::BadValue, "train.determinism"),
    ("seed: 42", "seed: 42\n  seed: 43", Code::DuplicateKey, "train.seed"),
    ("seed: 42", "seed: 42\n  micro_batch: 0", Code::BadValue, "train.micro_batch"),
];

/// Parses and holds the answer to what is promised of every answer.
fn check(text: &str) {
    let faults = match parse(text, &context()) {
        Ok(parsed) => {
            assert!(parsed.warnings.iter().all(|fault| fault.severity == Severity::Warning));
            parsed.warnings
        }
        Err(faults) => {
            assert!(faults.iter().any(|fault| fault.severity == Severity::Error));
            faults
        }
    };
    let starts: Vec<usize> = faults.iter().map(|fault| fault.span.as_ref().expect("a place").bytes.start).collect();
    assert!(starts.is_sorted(), "{faults:#?}");
    for fault in &faults {
        let span = fault.span.as_ref().expect("a place");
        assert!(text.get(span.bytes.clone()).is_some(), "{fault:#?}");
        assert!(span.line >= 1 && span.column >= 1, "{fault:#?}");
        assert!(fault.help.as_ref().is_some_and(|help| !help.is_empty()), "{fault:#?}");
        let texts = [Some(&fault.path), Some(&fault.message), fault.help.as_ref()];
        assert!(texts.into_iter().flatten().all(|text| !text.contains(char::is_control)), "{fault:#?}");
        assert!(fault.message.len() < 400 && fault.path.len() < 1200, "{fault:#?}");
    }
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in ".{0,300}") {
        check(&text);
    }

    #[test]
    fn any_yaml_like_text_gets_an_answer(text in "([a-z]{1,3}|version|train|data|[0-9]{1,20}|\\PC|[-:,{}\\[\\]&*!|>'\"%@#?~.]|\n {0,4}|  |: |- ){0,80}") {
        check(&text);
    }

    #[test]
    fn any_mutation_gets_an_answer(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[-a-z0-9:,{}\\[\\]&*!|>'\"#?~. \n\té]{0,6}"), 1..5)
    ) {
        let mut text = FULL.to_owned();
        for (at, length, insert) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, &insert);
        }
        check(&text);
    }

    #[test]
    fn any_value_gets_an_answer(key in prop::sample::select(layout::ALL[0].keys), value in "\\PC{0,12}") {
        check(&format!("{SMALL}{key}: {value}\n"));
        check(&FULL.replace(&format!("{key}: "), &format!("{key}: {value}")));
    }

    #[test]
    fn all_planted_faults_are_reported(plants in prop::sample::subsequence(PLANTS, 1..=PLANTS.len())) {
        let mut text = FULL.to_owned();
        for (from, to, ..) in &plants {
            prop_assert_eq!(FULL.matches(from).count(), 1, "`{}` stands once in the file", from);
            text = text.replacen(from, to, 1);
        }
        let faults = parse(&text, &context()).expect_err("there are faults");
        let mut found: Vec<_> = faults.iter().map(|fault| (fault.code, fault.path.as_str())).collect();
        let mut wanted: Vec<_> = plants.iter().map(|(_, _, code, path)| (*code, *path)).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(found, wanted, "{:#?}", faults);
    }
}
