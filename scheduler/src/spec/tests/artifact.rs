//! Job files that name a program of their own.

use super::accepted::SMALL;
use super::*;
use crate::model::ContentHash;

const HASH: ContentHash = ContentHash::new([0xAB; 32]);

/// Surroundings in which the artifact has one entry, `mine`.
fn with_artifact() -> ParseContext {
    let depth = ParamInfo {
        name: "depth".to_owned(),
        kind: ParamKind::Int { min: 1, max: 9 },
        default: Some(ParamValue::Int(2)),
    };
    let mine = EntryInfo { name: "mine".to_owned(), default_batch: 64, params: vec![depth] };
    ParseContext {
        artifact: Some(Ok(ArtifactInfo { hash: HASH, entries: vec![mine], mains: vec!["count".to_owned()] })),
        ..context()
    }
}

fn job(train: &str) -> String {
    SMALL.replace("entry: mlp", train)
}

/// The faults as `code place: message | help`.
fn refused(text: &str, context: &ParseContext) -> Vec<String> {
    let faults = parse(text, context).expect_err("a faulty file");
    faults.iter().map(|fault| format!("{fault} | {}", fault.help.as_deref().unwrap_or_default())).collect()
}

#[test]
fn the_entries_are_the_artifacts() {
    for place in ["target/debug/mine", &HASH.to_string()] {
        let text = job(&format!("artifact: \"{place}\", entry: mine"));
        let spec = parse(&text, &with_artifact()).unwrap().spec;
        let train = spec.train().unwrap();
        assert_eq!((train.artifact, train.entry.as_str()), (Some(HASH), "mine"), "{place}");
        assert_eq!(train.params["depth"], ParamValue::Int(2));
        // What the file calls it does not matter, only what is in it.
        assert!(spec.canonical().contains(&format!("\ntrain.artifact = {HASH}\n")), "{}", spec.canonical());
    }
    let unknown = refused(&job("artifact: mine, entry: mlp"), &with_artifact());
    assert_eq!(unknown, ["error[E040] train.entry: there is no entry `mlp` | choose `mine`"]);
    let slip = refused(&job("artifact: mine, entry: mine, params: {dept: 3}"), &with_artifact());
    assert_eq!(slip, ["error[E048] train.params.dept: the entry `mine` has no such parameter | did you mean `depth`?"]);
}

#[test]
fn the_main_functions_are_the_artifacts() {
    let job = |actors: &str| format!("version: 1\nkind: actors\nactors: {{{actors}}}\n");
    let spec = parse(&job("main: count, artifact: target/debug/mine"), &with_artifact()).unwrap().spec;
    assert_eq!(spec.artifact(), Some(HASH));
    assert!(spec.canonical().contains(&format!("\nactors.artifact = {HASH}\n")), "{}", spec.canonical());
    let slip = refused(&job("main: cuont, artifact: mine"), &with_artifact());
    assert_eq!(slip, ["error[E040] actors.main: there is no main function `cuont` | did you mean `count`?"]);
    // What another program has is no help.
    let other = refused(&job("main: word-count, artifact: mine"), &with_artifact());
    assert_eq!(other, ["error[E040] actors.main: there is no main function `word-count` | choose `count`"]);
    let unknown = refused(&job("main: anything, artifact: mine"), &context());
    assert!(matches!(unknown.as_slice(), [one] if one.starts_with("error[E041] actors.artifact")), "{unknown:?}");
}

#[test]
fn an_artifact_that_cannot_be_used_is_one_fault() {
    let why = ArtifactFault { message: "it is a script".to_owned(), help: "name a program".to_owned() };
    let context = ParseContext { artifact: Some(Err(why)), ..context() };
    let faults = refused(&job("artifact: run.sh, entry: mine"), &context);
    assert_eq!(faults, ["error[E041] train.artifact: it is a script | name a program"]);
}

#[test]
fn places_that_are_none_are_refused() {
    let other = ContentHash::new([1; 32]);
    let cases = [
        ("\"blake3:12\"".to_owned(), "E041"),
        (format!("\"{other}\""), "E041"),
        ("\"\"".to_owned(), "E041"),
        ("7".to_owned(), "E084"),
        ("\"s3://bucket/mine\"".to_owned(), "E090"),
    ];
    for (place, code) in cases {
        let faults = refused(&job(&format!("artifact: {place}, entry: mine")), &with_artifact());
        assert!(matches!(faults.as_slice(), [one] if one.contains(code)), "{place}: {faults:?}");
    }
    let faults = refused(&job("artifact: mine, entry: mine"), &context());
    assert!(faults[0].contains("nothing is known about the artifact `mine`"), "{faults:?}");
}
