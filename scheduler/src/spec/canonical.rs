//! One text for everything in a job that decides what comes out of the training.

use std::fmt::Write;

use super::job::{DataPart, DataSpec, Determinism, JobSpec, ParamValue, TrainLength};

impl JobSpec {
    /// The text behind the spec hash: two jobs with the same text and the same data give the same model.
    ///
    /// It covers the data sets (path, format, part, label column, shuffle seed) and of the training: entry, artifact
    /// (its content, wherever it lies), global batch, logical shards, length, determinism, seed and parameters (with their defaults). It leaves out what must
    /// not change the result: name, description, labels, the number of workers, their resources, market and price, what
    /// happens on preemption and crashes, checkpoints, and where the parameter server lives.
    ///
    /// One `key = value` per line, sorted by key; texts are quoted as in Rust, numbers written in full precision. The
    /// first line names the format; it changes when the meaning of a line does.
    pub fn canonical(&self) -> String {
        let mut lines = Vec::new();
        for (name, data) in &self.data {
            data_lines(name, data, &mut lines);
        }
        let train = &self.train;
        lines.extend(train.artifact.iter().map(|hash| format!("train.artifact = {hash}")));
        lines.push(format!(
            "train.determinism = {}",
            match train.determinism {
                Determinism::Strict => "strict",
                Determinism::Samples => "samples",
            }
        ));
        lines.push(format!("train.entry = {:?}", train.entry));
        lines.push(format!("train.global_batch = {}", train.global_batch));
        lines.push(match train.length {
            TrainLength::Epochs(epochs) => format!("train.length = {epochs} epochs"),
            TrainLength::Steps(steps) => format!("train.length = {steps} steps"),
        });
        lines.push(format!("train.logical_shards = {}", train.logical_shards));
        lines.extend(train.params.iter().map(|(name, value)| format!("train.params.{name:?} = {}", param(value))));
        lines.push(format!("train.seed = {}", train.seed));
        lines.sort();
        lines.into_iter().fold("neap job 1\n".to_owned(), |mut text, line| {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
            text
        })
    }
}

fn data_lines(name: &str, data: &DataSpec, lines: &mut Vec<String>) {
    let part = match data.part {
        DataPart::All => "all".to_owned(),
        DataPart::Train => "train".to_owned(),
        DataPart::Test => "test".to_owned(),
        DataPart::Rows { from, to } => format!("rows {from}..{to}"),
    };
    lines.push(format!("data.{name}.format = {}", format!("{:?}", data.format).to_lowercase()));
    lines.push(format!("data.{name}.part = {part}"));
    lines.push(format!("data.{name}.path = {:?}", data.path));
    lines.extend(data.label.iter().map(|label| format!("data.{name}.label = {label:?}")));
    lines.extend(data.shuffle_seed.iter().map(|seed| format!("data.{name}.shuffle_seed = {seed}")));
}

fn param(value: &ParamValue) -> String {
    match value {
        ParamValue::Int(number) => format!("{number}"),
        ParamValue::Float(number) => format!("{number:?}"),
        ParamValue::Text(text) => format!("{text:?}"),
        ParamValue::Bool(value) => format!("{value}"),
    }
}
