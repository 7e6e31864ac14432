//! One text for everything in a job that decides what comes out of the training.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::job::{
    ActorsSpec, Backend, Compression, Consistency, DataPart, DataSpec, Determinism, HashSide, InitSpec, JobSpec,
    ParamValue, TargetKind, TrainLength, TrainSpec, Work,
};

impl JobSpec {
    /// The text behind the spec hash: two jobs with the same text and the same data give the same model.
    ///
    /// It covers the data sets (path, format, part, label and other columns, order) and of the training: entry, artifact
    /// (its content, wherever it lies), backend, global batch, micro batch, logical shards, length, consistency, compression,
    /// determinism, seed, the weights it begins with and parameters (with their defaults); of own actors the artifact,
    /// the main function and its parameters. It leaves out what must not change the result: name, description, labels, the number of workers,
    /// their resources, market and price, what happens on preemption and crashes, checkpoints, how gradients are exchanged,
    /// and where and how many the parameter servers and their replicas are.
    ///
    /// One `key = value` per line, sorted by key; texts are quoted as in Rust, numbers written in full precision. The
    /// first line names the format; it changes when the meaning of a line does.
    pub fn canonical(&self) -> String {
        let mut lines = Vec::new();
        for (name, data) in &self.data {
            data_lines(name, data, &mut lines);
        }
        match &self.work {
            Work::Train(train) => train_lines(train, &mut lines),
            Work::Actors(actors) => actors_lines(actors, &mut lines),
        }
        lines.sort();
        lines.into_iter().fold("neap job 1\n".to_owned(), |mut text, line| {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
            text
        })
    }
}

fn train_lines(train: &TrainSpec, lines: &mut Vec<String>) {
    lines.extend(train.artifact.iter().map(|hash| format!("train.artifact = {hash}")));
    // The processor has no line, as before there was anything else.
    lines.extend(match train.backend {
        Backend::Flex => None,
        Backend::Wgpu => Some("train.backend = wgpu".to_owned()),
        Backend::Cuda => Some("train.backend = cuda".to_owned()),
    });
    // A synchronous exchange has no line, as before there was another.
    lines.extend(match train.consistency {
        Consistency::Sync => None,
        Consistency::Ssp { staleness } => Some(format!("train.consistency = ssp {staleness}")),
        Consistency::Async => Some("train.consistency = async".to_owned()),
    });
    lines.push(format!(
        "train.determinism = {}",
        match train.determinism {
            Determinism::Strict => "strict",
            Determinism::Samples => "samples",
        }
    ));
    lines.extend(train.compression.map(|compression| match compression {
        Compression::Bf16 => "train.compression = bf16".to_owned(),
        Compression::TopK { share } => format!("train.compression = topk {share:?}"),
    }));
    lines.push(format!("train.entry = {:?}", train.entry));
    lines.push(format!("train.global_batch = {}", train.global_batch));
    lines.push(match train.length {
        TrainLength::Epochs(epochs) => format!("train.length = {epochs} epochs"),
        TrainLength::Steps(steps) => format!("train.length = {steps} steps"),
    });
    lines.push(format!("train.logical_shards = {}", train.logical_shards));
    // Pieces as large as a shard's whole part leave it in one piece, as if nothing had been said.
    let pieces = train.micro_batch.filter(|&micro| micro < train.global_batch / train.logical_shards);
    lines.extend(pieces.map(|micro| format!("train.micro_batch = {micro}")));
    lines.extend(train.params.iter().map(|(name, value)| format!("train.params.{name:?} = {}", param(value))));
    lines.push(format!("train.seed = {}", train.seed));
    train.init.iter().for_each(|init| init_lines(init, lines));
}

fn init_lines(init: &InitSpec, lines: &mut Vec<String>) {
    lines.push(format!("train.init.path = {:?}", init.path));
    lines.extend(init.rename.iter().map(|(from, to)| format!("train.init.rename.{from:?} = {to:?}")));
    for (field, names) in [("fresh", &init.fresh), ("freeze", &init.freeze), ("ignore", &init.ignore)] {
        lines.extend(names.iter().map(|name| format!("train.init.{field} = {name:?}")));
    }
}

fn actors_lines(actors: &ActorsSpec, lines: &mut Vec<String>) {
    lines.extend(actors.artifact.iter().map(|hash| format!("actors.artifact = {hash}")));
    lines.push(format!("actors.main = {:?}", actors.main));
    lines.extend(actors.params.iter().map(|(name, value)| format!("actors.params.{name:?} = {}", param(value))));
}

fn data_lines(name: &str, data: &DataSpec, lines: &mut Vec<String>) {
    let part = match &data.part {
        DataPart::All => "all".to_owned(),
        DataPart::Train => "train".to_owned(),
        DataPart::Test => "test".to_owned(),
        DataPart::Rows { from, to } => format!("rows {from}..{to}"),
        DataPart::Hash(split) => {
            let side = match split.side {
                HashSide::Share => "the share of",
                HashSide::Rest => "all but the share of",
            };
            let by = split.by.as_ref().map_or("the row".to_owned(), |column| format!("column {column:?}"));
            format!("{side} {} ppm by the hash of {by}", split.share_ppm)
        }
    };
    lines.push(format!("data.{name}.format = {}", format!("{:?}", data.format).to_lowercase()));
    lines.push(format!("data.{name}.part = {part}"));
    lines.push(format!("data.{name}.path = {:?}", data.path));
    lines.extend(data.label.iter().map(|label| format!("data.{name}.label = {label:?}")));
    let target = |kind| match kind {
        TargetKind::Class => "class",
        TargetKind::Value => "value",
    };
    lines.extend(data.target.map(|kind| format!("data.{name}.target = {}", target(kind))));
    let columns =
        [("columns", &data.columns.only), ("ignore", &data.columns.ignore), ("categories", &data.columns.categories)];
    let chosen = columns.iter().filter(|(_, columns)| !columns.is_empty());
    lines.extend(chosen.map(|(key, columns)| {
        let sorted: BTreeSet<&String> = columns.iter().collect();
        format!("data.{name}.{key} = {sorted:?}")
    }));
    let order = &data.order;
    lines.extend(order.seed.iter().map(|seed| format!("data.{name}.shuffle_seed = {seed}")));
    if let (Some(_), Some(window)) = (order.seed, order.window) {
        lines.push(format!("data.{name}.shuffle_window = {window}"));
        lines.push(format!("data.{name}.micro_shard = {}", order.micro_shard));
    }
}

fn param(value: &ParamValue) -> String {
    match value {
        ParamValue::Int(number) => format!("{number}"),
        ParamValue::Float(number) => format!("{number:?}"),
        ParamValue::Text(text) => format!("{text:?}"),
        ParamValue::Bool(value) => format!("{value}"),
    }
}
