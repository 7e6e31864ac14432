//! Tests of the whole way from text to job or faults.

mod accepted;
mod artifact;
mod properties;
mod refused;
mod schema;

use super::*;

/// Surroundings with two entries.
fn context() -> ParseContext {
    let param = |name: &str, kind, default| ParamInfo { name: name.to_owned(), kind, default };
    let rate = ParamKind::Float { min: 0.0, max: 10.0 };
    let optimizers = ParamKind::Text { choices: vec!["sgd".to_owned(), "adam".to_owned()] };
    let params = vec![
        param("lr", rate, Some(ParamValue::Float(0.1))),
        param("hidden", ParamKind::Int { min: 1, max: 4096 }, Some(ParamValue::Int(128))),
        param("optimizer", optimizers, Some(ParamValue::Text("sgd".to_owned()))),
        param("bias", ParamKind::Bool, None),
    ];
    let entry = |name: &str| EntryInfo { name: name.to_owned(), default_batch: 128, params: params.clone() };
    ParseContext {
        base_dir: "/jobs".to_owned(),
        entries: vec![entry("mlp"), entry("cnn")],
        mains: Some(vec!["word-count".to_owned()]),
        artifact: None,
    }
}

/// The faults of `text`, one line each: `line:column code path: message | help`.
fn faults(text: &str) -> String {
    let faults = match parse(text, &context()) {
        Ok(parsed) => parsed.warnings,
        Err(faults) => faults,
    };
    let mut lines = String::new();
    for fault in faults {
        let span = fault.span.clone().expect("every fault has a place");
        assert!(text.get(span.bytes.clone()).is_some(), "{span:?} is outside of the text");
        let help = fault.help.as_deref().expect("every fault has a help");
        lines += &format!("{}:{} {fault} | {help}\n", span.line, span.column);
    }
    lines
}
