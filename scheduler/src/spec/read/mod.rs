//! From the tree to the job. Every field is read even where others are faulty, so that all faults are found at once;
//! only then the parts are put together.

mod actors;
mod artifact;
mod compression;
mod data;
mod init;
mod location;
mod money;
mod node;
mod params;
mod train;

use std::collections::BTreeMap;

use super::code::Code;
use super::context::{ArtifactPlace, ParseContext};
use super::fault::{Faults, Reported, Span};
use super::field::{Block, Field, Missing};
use super::job::{CheckpointEvery, CheckpointSpec, DEFAULT_PROJECT, JobSpec, OnPreempt, Work};
use super::layout;
use super::quantity;
use super::tree::Node;

const DESCRIPTION_CHARS_MAX: usize = 1000;
const LABELS_MAX: usize = 32;
const LABEL_KEY_CHARS_MAX: usize = 63;
const LABEL_VALUE_CHARS_MAX: usize = 256;

/// A job that restarts more often than this does not get better by it.
const RESTARTS_MAX: u32 = 1000;
const CHECKPOINTS_KEPT_MAX: u32 = 1000;
const CHECKPOINTS_KEPT_MIN: u32 = 2;
const CHECKPOINTS_KEPT: u32 = 3;

/// What a job writes that says nothing about checkpoints.
const CHECKPOINT: CheckpointSpec =
    CheckpointSpec { place: None, every: CheckpointEvery::Auto, keep: CHECKPOINTS_KEPT, on_notice: true };

/// Where the artifact is that the job names, if it names one.
pub(super) fn artifact_place(
    root: &Node,
    context: &ParseContext,
    faults: &mut Faults,
) -> Option<Result<ArtifactPlace, Reported>> {
    let start = start_of(root);
    let field = Field { path: String::new(), key_span: &start, node: root };
    let named = ["train", "actors"].into_iter().find_map(|block| field.get(block)?.get("artifact"))?;
    Some(artifact::place(&named, context, faults))
}

fn start_of(root: &Node) -> Span {
    Span { line: root.span.line, column: root.span.column, bytes: root.span.bytes.start..root.span.bytes.start }
}

/// Reads the whole job.
pub(super) fn job(root: &Node, context: &ParseContext, faults: &mut Faults) -> Result<JobSpec, Reported> {
    let start = start_of(root);
    let field = Field { path: String::new(), key_span: &start, node: root };
    if !field.is_map() {
        let message = format!("the file holds {} instead of a job", field.found());
        return Err(field.fault(faults, Code::NotAJob, message, "start with `version: 1` and `kind: train`"));
    }
    let job = field.block(faults, &layout::JOB)?;
    let version = job.required(faults, "version", missing("start the file with `version: 1`"), version);
    let missing_kind = missing("say `kind: train` or `kind: actors`");
    let kind = job.required(faults, "kind", missing_kind, kind);
    let alone = kind.as_ref().map_or(Ok(()), |kind| without_others(*kind, &job, faults));
    let name = job.optional(faults, "name", name);
    let description = job.optional(faults, "description", description);
    let project = job.optional(faults, "project", project);
    let labels = job.optional(faults, "labels", labels);
    let workers = node::workers(&job, faults);
    let resources = node::resources(&job, faults);
    let gang = job.optional(faults, "placement", gang);
    let market = node::market(&job, faults);
    let max_price = job.optional(faults, "max_price", money::max_price);
    let priority = money::priority(&job, faults);
    let budget = job.optional(faults, "budget", money::budget);
    let deadline = job.optional(faults, "deadline", money::deadline);
    let objective = money::objective(&job, faults);
    let on_preempt = job.optional(faults, "elastic", on_preempt);
    let max_restarts = job.optional(faults, "retry", max_restarts);
    let checkpoint = job.optional(faults, "checkpoint", |field, faults| checkpoint(field, context, faults));
    let checkpoint = checkpoint.map(|given| given.unwrap_or(CHECKPOINT));
    let can_save =
        money::budget_can_save(&job, budget.as_ref().ok().and_then(Option::as_ref), checkpoint.as_ref().ok(), faults);
    // A job of a kind that is not built needs neither data nor work, but what is there is checked.
    let other_kind = kind.as_ref().err().filter(|_| is_other_kind(&job)).copied();
    let data = match (&kind, other_kind, job.get("data")) {
        (Ok(Kind::Actors), ..) => Ok(BTreeMap::new()),
        (_, Some(reported), None) => Err(reported),
        _ => data::data_sets(&job, context, faults),
    };
    let work = match (&kind, other_kind, job.get("train")) {
        (Ok(Kind::Actors), ..) => actors::actors(&job, context, faults).map(Work::Actors),
        (_, Some(reported), None) => Err(reported),
        _ => train::train(&job, workers.as_ref().ok(), context, faults).map(|train| Work::Train(Box::new(train))),
    };
    version?;
    kind?;
    alone?;
    gang?;
    can_save?;
    Ok(JobSpec {
        name: name?,
        project: project?.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        description: description?.unwrap_or_default(),
        labels: labels?.unwrap_or_default(),
        priority: priority?,
        workers: workers?,
        resources: resources?,
        market: market?,
        max_price: max_price?,
        budget: budget?,
        deadline: deadline?,
        objective: objective?,
        on_preempt: on_preempt?.flatten().unwrap_or(OnPreempt::Shrink),
        max_restarts: max_restarts?.flatten().unwrap_or(0),
        checkpoint: checkpoint?,
        data: data?,
        work: work?,
    })
}

/// What a missing field of no special code says.
fn missing(help: &str) -> Missing<'_> {
    Missing { code: Code::Missing, help }
}

fn version(field: &Field<'_>, faults: &mut Faults) -> Result<(), Reported> {
    if field.is_word("1") {
        return Ok(());
    }
    let message = format!("the version {} is not known", field.found());
    Err(field.fault(faults, Code::Version, message, "write `version: 1`"))
}

/// The kinds of job that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Train,
    Actors,
}

/// Only the kinds that are built.
fn kind(field: &Field<'_>, faults: &mut Faults) -> Result<Kind, Reported> {
    field.choice(faults, Code::Kind, &[("train", Kind::Train), ("actors", Kind::Actors)], layout::JOB.kinds)
}

/// A job is without the blocks of the other kinds. (Where a kind is refused, its block goes with it.)
fn without_others(kind: Kind, job: &Block<'_>, faults: &mut Faults) -> Result<(), Reported> {
    let (own, foreign) = match kind {
        Kind::Train => ("train", &["actors"][..]),
        Kind::Actors => ("actors", &["train", "data"][..]),
    };
    let others = foreign.iter().chain(layout::JOB.kinds).filter_map(|block| Some((block, job.get(block)?)));
    let refused = others.map(|(block, field)| {
        let message = format!("a job of `kind: {own}` has no block `{block}`");
        faults.error(Code::KindBlock, &field.path, field.key_span, message, "remove the block, or change `kind`")
    });
    refused.last().map_or(Ok(()), Err)
}

fn is_other_kind(job: &Block<'_>) -> bool {
    job.get("kind").is_some_and(|kind| layout::JOB.kinds.iter().any(|other| kind.is_word(other)))
}

fn name(field: &Field<'_>, faults: &mut Faults) -> Result<String, Reported> {
    dns_label(field, Code::Name, faults)
}

fn dns_label(field: &Field<'_>, code: Code, faults: &mut Faults) -> Result<String, Reported> {
    let text = field.text(faults)?;
    if quantity::is_dns_label(text) {
        return Ok(text.to_owned());
    }
    let message = format!("{} is not a DNS label", field.found());
    let help = "use 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last";
    Err(field.fault(faults, code, message, help))
}

fn description(field: &Field<'_>, faults: &mut Faults) -> Result<String, Reported> {
    let text = field.text(faults)?;
    let chars = text.chars().count();
    if chars <= DESCRIPTION_CHARS_MAX {
        return Ok(text.to_owned());
    }
    let message = format!("the description has {chars} characters");
    Err(field.fault(faults, Code::BadValue, message, format!("keep it within {DESCRIPTION_CHARS_MAX}")))
}

fn project(field: &Field<'_>, faults: &mut Faults) -> Result<String, Reported> {
    dns_label(field, Code::Project, faults)
}

fn labels(field: &Field<'_>, faults: &mut Faults) -> Result<BTreeMap<String, String>, Reported> {
    let entries = field.entries(faults, "give a map of texts, as in `{team: vision}`")?;
    if entries.len() > LABELS_MAX {
        let message = format!("there are {} labels", entries.len());
        return Err(field.fault(faults, Code::BadValue, message, format!("a job has at most {LABELS_MAX}")));
    }
    let labels: Vec<_> = entries.iter().map(|(key, field)| label(key, field, faults)).collect();
    labels.into_iter().collect()
}

fn label(key: &str, field: &Field<'_>, faults: &mut Faults) -> Result<(String, String), Reported> {
    let value = field.text(faults);
    if key.is_empty() || key.chars().count() > LABEL_KEY_CHARS_MAX {
        let message = format!("the label's key has {} characters", key.chars().count());
        let help = format!("use 1 to {LABEL_KEY_CHARS_MAX}");
        return Err(faults.error(Code::BadValue, &field.path, field.key_span, message, help));
    }
    let value = value?;
    if value.chars().count() > LABEL_VALUE_CHARS_MAX {
        let message = format!("the label's value has {} characters", value.chars().count());
        let help = format!("use at most {LABEL_VALUE_CHARS_MAX}");
        return Err(field.fault(faults, Code::BadValue, message, help));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn gang(field: &Field<'_>, faults: &mut Faults) -> Result<(), Reported> {
    let block = field.block(faults, &layout::PLACEMENT)?;
    let gang = block.optional(faults, "gang", |field, faults| Ok((field.switch(faults)?, field.clone())))?;
    match gang {
        Some((false, field)) => {
            let help = "leave it out; the workers of `workers.min` start together";
            Err(field.fault(faults, Code::NotBuiltYet, "`gang: false` is not built yet", help))
        }
        _ => Ok(()),
    }
}

fn on_preempt(field: &Field<'_>, faults: &mut Faults) -> Result<Option<OnPreempt>, Reported> {
    let block = field.block(faults, &layout::ELASTIC)?;
    block.optional(faults, "on_preempt", |field, faults| {
        let built = [("shrink", OnPreempt::Shrink), ("replace", OnPreempt::Replace)];
        field.choice(faults, Code::BadValue, &built, &["wait", "restart"])
    })
}

fn max_restarts(field: &Field<'_>, faults: &mut Faults) -> Result<Option<u32>, Reported> {
    let block = field.block(faults, &layout::RETRY)?;
    block.optional(faults, "max_restarts", |field, faults| field.whole_u32(faults, 0..=RESTARTS_MAX))
}

fn checkpoint(field: &Field<'_>, context: &ParseContext, faults: &mut Faults) -> Result<CheckpointSpec, Reported> {
    let block = field.block(faults, &layout::CHECKPOINT)?;
    let place =
        block.optional(faults, "uri", |field, faults| location::location(field, Code::CheckpointUri, context, faults));
    let every = block.optional(faults, "every", checkpoint_every);
    let keep = block.optional(faults, "keep", checkpoints_kept);
    let on_notice = block.optional(faults, "on_notice", |field, faults| field.switch(faults));
    Ok(CheckpointSpec {
        place: place?,
        every: every?.unwrap_or(CheckpointEvery::Auto),
        keep: keep?.unwrap_or(CHECKPOINTS_KEPT),
        on_notice: on_notice?.unwrap_or(true),
    })
}

fn checkpoint_every(field: &Field<'_>, faults: &mut Faults) -> Result<CheckpointEvery, Reported> {
    let help = "write `auto`, `none`, `2epochs`, `100steps` or `10m`";
    let (text, _) = field.scalar(faults, "an interval", help)?;
    match text {
        "auto" => return Ok(CheckpointEvery::Auto),
        "none" => return Ok(CheckpointEvery::Never),
        _ => {}
    }
    if let Some(time) = quantity::duration(text) {
        return Ok(CheckpointEvery::Time(time));
    }
    match quantity::counted(text) {
        Some((steps @ 1.., "step" | "steps")) => Ok(CheckpointEvery::Steps(steps)),
        Some((epochs @ 1..=0xFFFF_FFFF, "epoch" | "epochs")) => Ok(CheckpointEvery::Epochs(epochs as u32)),
        _ => {
            let message = format!("{} is not a checkpoint interval", field.found());
            Err(field.fault(faults, Code::CheckpointEvery, message, help))
        }
    }
}

fn checkpoints_kept(field: &Field<'_>, faults: &mut Faults) -> Result<u32, Reported> {
    let keep = field.whole_u32(faults, 1..=CHECKPOINTS_KEPT_MAX)?;
    if keep < CHECKPOINTS_KEPT_MIN {
        let message = "a single checkpoint leaves nothing when it is damaged; 2 are kept";
        faults.warning(Code::BadValue, &field.path, field.span(), message, "write `keep: 2`");
    }
    Ok(keep.max(CHECKPOINTS_KEPT_MIN))
}
