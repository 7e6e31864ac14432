//! `neap run` and `neap wait`: hand a job in, and stay until it has ended.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use neap_scheduler::model::MicroUsd;

use crate::http::body::{ErrorBody, FaultBody, JobBody, JobStateBody, SubmitBody};

use super::args::{Format, RunArgs};
use super::client::ClientError;
use super::consent::{Consent, consent};
use super::exit::{CliError, Exit};
use super::follow::{self, Ending, Show};
use super::jobs::metrics_text;
use super::output::{coarse, fields, harmless, percent};
use super::validate::{Checked, JobFile};
use super::{Shell, entries};

pub(super) fn run(shell: &Shell, args: &RunArgs) -> Result<Exit, CliError> {
    let file = JobFile::read(&args.file)?;
    let Checked { job, artifact } = file.check(shell)?;
    let spec = job.spec;
    let client = shell.client()?;
    let name = file.name.clone();
    let estimate = match consent(shell, args, &spec, artifact.as_ref()) {
        Consent::Start(estimate) => estimate,
        Consent::Declined => {
            shell.output.remark("not started");
            return Ok(Exit::JobCancelled);
        }
        Consent::Hopeless(refusal) => return Err(CliError::Hopeless(refusal)),
    };
    let JobFile { name: file_name, text: source, base_dir } = file;
    if let Some(artifact) = &artifact {
        entries::hand_in(shell, &client, artifact)?;
    }
    let artifact = artifact.map(|artifact| artifact.hash);
    let body = SubmitBody { source, base_dir, file_name, estimate, force: args.force, artifact };
    let job = match client.submit(&body) {
        Ok(job) => job,
        Err(ClientError::Api { body, .. }) if !body.faults.is_empty() => return refused(shell, name, &body),
        Err(error) => return Err(error.into()),
    };
    if args.detach {
        shell
            .output
            .document(&job, &job.id, || format!("{} ({}) accepted; `neap status {}`\n", job.id, job.name, job.id))?;
        return Ok(Exit::Ok);
    }
    let show = match (args.wait || shell.output.quiet, io::stderr().is_terminal()) {
        (true, _) => Show::silent(),
        (false, true) => Show::bar(&job),
        (false, false) => Show::lines(),
    };
    finish(shell, follow::follow(shell, job, show)?)
}

pub(super) fn wait(shell: &Shell, job: &str) -> Result<Exit, CliError> {
    let job = shell.client()?.job(job)?;
    finish(shell, follow::follow(shell, job, Show::silent())?)
}

/// The control plane knows more than this binary, or is another version of it.
fn refused(shell: &Shell, file: String, body: &ErrorBody) -> Result<Exit, CliError> {
    shell.output.warn(body.faults.iter().map(|fault| fault_text(&file, fault)).collect::<Vec<_>>().join("\n").as_str());
    Err(CliError::InvalidJob { file })
}

fn fault_text(file: &str, fault: &FaultBody) -> String {
    let mut place = file.to_owned();
    for number in [fault.line, fault.column].into_iter().flatten() {
        write!(place, ":{number}").expect("writing to a string cannot fail");
    }
    let field = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path) };
    let help = fault.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
    format!("{}[{}] {place} {field}{}{help}", fault.severity, fault.code, fault.message)
}

fn finish(shell: &Shell, ending: Ending) -> Result<Exit, CliError> {
    let output = shell.output;
    let (job, remark) = match ending {
        Ending::Ended(job) => {
            output.document(&job, &job.id, || summary(&job))?;
            return Ok(Exit::of_job(&job));
        }
        Ending::Detached(job) => {
            let id = &job.id;
            let how = format!("`neap wait {id}` or `neap logs -f {id}` follows it, `neap stop {id}` stops it");
            let remark = format!("detached; {id} ({}) goes on: {how}", job.name);
            (job, remark)
        }
        Ending::TimedOut(job) => {
            let remark = format!("{} ({}) has not ended yet: {}", job.id, job.name, job.state_text());
            (job, remark)
        }
    };
    output.warn(&remark);
    if output.format != Format::Table {
        output.document(&job, &job.id, String::new)?;
    }
    Ok(Exit::JobNotFinished)
}

/// What came out of a job that has ended.
fn summary(job: &JobBody) -> String {
    let result = job.result.as_ref();
    let wall = job.ended_ms.map(|ended| {
        let first = job.first_step_ms.map(|at| format!(" (first step after {})", at.since(job.submitted_ms)));
        format!("{}{}", ended.since(job.submitted_ms), first.unwrap_or_default())
    });
    let epochs = u64::try_from(job.epochs.len()).unwrap_or(u64::MAX);
    let per_epoch = job.cost.total_micro_usd.get().checked_div(epochs);
    let per_epoch = per_epoch.map(|cost| format!(" ({} per epoch)", MicroUsd::new(cost))).unwrap_or_default();
    let failed = job.state == JobStateBody::Failed;
    fields(&[
        ("job", Some(format!("{} ({}) {}", job.name, job.id, job.state_text()))),
        ("why", (job.state != JobStateBody::Succeeded).then(|| job.why.clone())),
        ("test accuracy", result.and_then(|result| result.eval_accuracy).map(percent)),
        ("test metrics", result.and_then(|result| metrics_text(&result.eval_metrics))),
        ("train loss", result.map(|result| format!("{:.4}", result.train_loss))),
        ("answer", job.answer.as_ref().map(|answer| harmless(&answer.to_string()))),
        ("wall time", wall),
        ("cost", Some(format!("{}{per_epoch}", job.cost.total_micro_usd))),
        ("idle share", Some(percent(job.cost.idle_share))),
        ("recoveries", (job.recoveries > 0).then(|| job.recoveries.to_string())),
        ("model", result.map(|result| result.model_path.clone())),
        ("model card", result.map(|result| result.card_path.clone())),
        ("look", failed.then(|| format!("neap logs {0}; neap explain {0}", job.id))),
    ])
}

/// Time since submission, for listings.
pub(super) fn lasted(job: &JobBody) -> String {
    let until = job.ended_ms.unwrap_or_else(super::output::now);
    coarse(until.since(job.submitted_ms))
}
