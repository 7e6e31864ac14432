//! `neap ps`, `status`, `logs` and `stop`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::http::body::{BudgetBody, DataBody, JobBody, JobStateBody, StatusBody, StopBody};

use super::Shell;
use super::args::{AllArgs, Format, LogsArgs, StatusArgs, StopArgs};
use super::client::Listed;
use super::exit::{CliError, Exit};
use super::follow::Patience;
use super::output::{Listing, Tone, age, fields, harmless, instant, percent, thousands};
use super::run::lasted;

/// Pause between two looks at a log that grows.
const LOG_EVERY: Duration = Duration::from_millis(300);

impl AllArgs {
    pub(super) fn listed(&self) -> Listed {
        if self.all { Listed::All } else { Listed::Live }
    }
}

pub(super) fn list(shell: &Shell, args: &AllArgs) -> Result<Exit, CliError> {
    let jobs = shell.client()?.jobs(args.listed())?;
    let mut listing = Listing::new(&["ID", "NAME", "STATE", "EPOCH", "LOSS", "WORKERS", "RATE", "COST", "TIME"]);
    for job in &jobs {
        let progress = job.progress.as_ref();
        let plain = |text: String| (text, Tone::Plain);
        listing.row([
            plain(job.id.clone()),
            plain(job.name.clone()),
            (job.state_text(), tone(job.state)),
            plain(progress.map_or_else(dash, |progress| {
                format!("{}/{}", (progress.epoch + 1).min(progress.epochs_total), progress.epochs_total)
            })),
            plain(progress.map_or_else(dash, |progress| format!("{:.4}", progress.loss))),
            plain(format!("{}/{}", job.workers.len(), job.workers_wanted.target)),
            plain(job.rate_micro_usd_per_hour.to_string()),
            plain(job.cost.total_micro_usd.to_string()),
            plain(lasted(job)),
        ]);
    }
    if jobs.is_empty() && shell.output.format == Format::Table {
        let more = if args.all { "" } else { "; `neap ps -a` shows ended ones" };
        shell.output.remark(&format!("no jobs{more}"));
        return Ok(Exit::Ok);
    }
    shell.output.list(&jobs, &listing)?;
    Ok(Exit::Ok)
}

pub(super) fn status(shell: &Shell, args: &StatusArgs) -> Result<Exit, CliError> {
    let client = shell.client()?;
    let Some(name) = &args.job else {
        let status = client.status()?;
        shell.output.document(&status, &status.cluster, || plane_text(&status))?;
        return Ok(Exit::Ok);
    };
    let job = client.job(name)?;
    shell.output.document(&job, &job.id, || job_text(shell, &job))?;
    Ok(if args.exit_code { Exit::of_job(&job) } else { Exit::Ok })
}

pub(super) fn logs(shell: &Shell, args: &LogsArgs) -> Result<Exit, CliError> {
    let output = shell.output;
    match output.format {
        Format::Table | Format::Jsonl => {}
        Format::Json if !args.follow => {
            let piece = shell.client()?.logs(&args.job, 0)?;
            output.document(&piece, &args.job, String::new)?;
            return Ok(Exit::Ok);
        }
        Format::Json => return Err(CliError::Usage("a log that is followed has no end; use -o jsonl".to_owned())),
        Format::Csv | Format::Name => return Err(CliError::Usage("a log is text, json or jsonl".to_owned())),
    }
    let mut client = shell.client()?;
    let (mut offset, mut patience) = (0, Patience::default());
    loop {
        let piece = match client.logs(&args.job, offset) {
            Ok(piece) => piece,
            // The control plane's trouble is not the log's: it goes on where it was.
            Err(error) if args.follow && error.is_away() && !patience.is_over() => {
                std::thread::sleep(LOG_EVERY);
                client = shell.client().unwrap_or(client);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        patience = Patience::default();
        let grown = piece.next_offset > offset;
        offset = piece.next_offset;
        output.text(&log_text(&piece.text, output.format))?;
        if !grown && (piece.ended || !args.follow) {
            return Ok(Exit::Ok);
        }
        if !grown {
            std::thread::sleep(LOG_EVERY);
        }
    }
}

pub(super) fn stop(shell: &Shell, args: &StopArgs) -> Result<Exit, CliError> {
    let job = shell.client()?.stop(&args.job, StopBody { now: args.now })?;
    let how = if args.now { "at once" } else { "after a last checkpoint" };
    shell.output.document(&job, &job.id, || {
        format!("{} ({}) is told to stop {how}; now {}\n", job.id, job.name, job.state_text())
    })?;
    Ok(Exit::Ok)
}

fn log_text(text: &str, format: Format) -> String {
    if format == Format::Jsonl {
        text.lines().map(|line| format!("{}\n", serde_json::json!({ "line": line }))).collect()
    } else {
        harmless(text)
    }
}

fn tone(state: JobStateBody) -> Tone {
    match state {
        JobStateBody::Running | JobStateBody::Succeeded => Tone::Good,
        JobStateBody::Failed | JobStateBody::Cancelled => Tone::Bad,
        _ => Tone::Busy,
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn plane_text(status: &StatusBody) -> String {
    fields(&[
        ("cluster", Some(status.cluster.clone())),
        ("version", Some(status.version.clone())),
        ("up for", Some(format!("{} (process {})", age(status.started_ms), status.pid))),
        ("home", Some(status.home.clone())),
        ("journal", Some(format!("{} records", status.journal_records))),
        ("jobs", Some(format!("{} not ended", status.live_jobs))),
        ("nodes", Some(format!("{} not ended", status.live_nodes))),
    ])
}

fn job_text(shell: &Shell, job: &JobBody) -> String {
    let progress = job.progress.as_ref();
    let wanted = job.workers_wanted;
    let mut text = fields(&[
        ("job", Some(format!("{} ({})", job.name, job.id))),
        ("project", Some(job.project.clone())),
        ("state", Some(job.state_text())),
        ("why", (!job.why.is_empty()).then(|| job.why.clone())),
        ("submitted", Some(instant(job.submitted_ms))),
        ("first step", job.first_step_ms.map(|at| format!("{} after that", at.since(job.submitted_ms)))),
        ("lasted", Some(lasted(job))),
        (
            "workers",
            Some(format!(
                "{} of {} (at least {}, at most {})",
                job.workers.len(),
                wanted.target,
                wanted.min,
                wanted.max
            )),
        ),
        ("step", progress.map(|at| format!("{} of {}", at.step, at.steps_total))),
        ("loss", progress.map(|at| format!("{:.4}", at.loss))),
        ("samples/s", progress.map(|at| format!("{:.0}", at.samples_per_second))),
        ("data", job.data.as_ref().map(data_text)),
        ("checkpoint", job.checkpoint.as_ref().map(|saved| format!("step {}, {} ago", saved.step, age(saved.at_ms)))),
        ("recoveries", Some(job.recoveries.to_string())),
        ("rate", Some(job.rate_micro_usd_per_hour.to_string())),
        ("cost", Some(job.cost.total_micro_usd.to_string())),
        ("budget", job.budget.as_ref().map(budget_text)),
        ("idle share", Some(percent(job.cost.idle_share))),
        ("answer", job.answer.as_ref().map(|answer| harmless(&answer.to_string()))),
        ("model", job.result.as_ref().map(|result| result.model_path.clone())),
        ("model card", job.result.as_ref().map(|result| result.card_path.clone())),
    ]);
    if !job.workers.is_empty() {
        text.push('\n');
        text.push_str(&shell.output.table(&workers(job)));
    }
    if !job.epochs.is_empty() {
        text.push('\n');
        text.push_str(&shell.output.table(&epochs(job)));
    }
    text
}

/// `waited for 0.30 % of the time; 1,204 MB of samples read on their nodes, 0 MB sent by others`, and what came from object
/// stores where something did.
fn data_text(data: &DataBody) -> String {
    let megabytes = |bytes: u64| thousands(bytes / 1_000_000);
    let fetched = match data.store_bytes {
        0 => String::new(),
        bytes => format!("; {} MB of files fetched from object stores", megabytes(bytes)),
    };
    format!(
        "waited for {} of the time; {} MB of samples read on their nodes, {} MB sent by others{fetched}",
        percent(data.waited_share),
        megabytes(data.local_bytes),
        megabytes(data.remote_bytes)
    )
}

fn workers(job: &JobBody) -> Listing {
    let mut listing = Listing::new(&["WORKER", "NODE", "STATE", "SHARDS", "SERVER", "PROCESS"]);
    for worker in &job.workers {
        let tone = if worker.state == "running" { Tone::Good } else { Tone::Busy };
        let serves = match (worker.server, worker.replica) {
            (true, _) => "yes",
            (false, true) => "replica",
            (false, false) => "-",
        };
        let shards = worker.shards.map_or_else(dash, |shards| format!("{}..{}", shards.from, shards.to));
        listing.row([
            (worker.id.clone(), Tone::Plain),
            (worker.node.clone(), Tone::Plain),
            (worker.state.clone(), tone),
            (shards, Tone::Plain),
            (serves.to_owned(), Tone::Plain),
            (worker.pid.map_or_else(dash, |pid| pid.to_string()), Tone::Plain),
        ]);
    }
    listing
}

fn epochs(job: &JobBody) -> Listing {
    let mut listing = Listing::new(&["EPOCH", "SAMPLES", "TRAIN LOSS", "TEST LOSS", "TEST ACCURACY", "OTHER METRICS"]);
    for epoch in &job.epochs {
        let cells = [
            (epoch.epoch + 1).to_string(),
            epoch.samples.to_string(),
            format!("{:.4}", epoch.train_loss),
            epoch.eval_loss.map_or_else(dash, |loss| format!("{loss:.4}")),
            epoch.eval_accuracy.map_or_else(dash, percent),
            metrics_text(&epoch.eval_metrics).unwrap_or_else(dash),
        ];
        listing.row(cells.map(|text| (text, Tone::Plain)));
    }
    listing
}

/// `mae 0.2500, r2 0.9100`; nothing where there are none.
pub(super) fn metrics_text(metrics: &BTreeMap<String, f64>) -> Option<String> {
    let texts: Vec<String> = metrics.iter().map(|(name, value)| format!("{} {value:.4}", harmless(name))).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// `$1.50 in all, $0.04/h at once; $0.0062 set aside until its nodes can be gone`.
fn budget_text(budget: &BudgetBody) -> String {
    let total = budget.max_cost_micro_usd.map(|limit| format!("{limit} in all"));
    let rate = budget.max_cost_micro_usd_per_hour.map(|limit| format!("{limit} at once"));
    let limits: Vec<String> = total.into_iter().chain(rate).collect();
    format!("{}; {} set aside until its nodes can be gone", limits.join(", "), budget.reserved_micro_usd)
}

#[cfg(test)]
pub(super) mod tests {
    use neap_scheduler::model::{MicroUsd, MicroUsdPerHour, Millis};

    use super::*;
    use crate::http::body::{CostBody, ProgressBody, ShardsBody, WorkerBody, WorkersWantedBody};

    /// A running job with one worker.
    pub(in super::super) fn job() -> JobBody {
        JobBody {
            id: "j1".to_owned(),
            project: "default".to_owned(),
            name: "digits".to_owned(),
            spec_hash: "00ff".to_owned(),
            state: JobStateBody::Running,
            reason: None,
            why: "training".to_owned(),
            submitted_ms: Millis::new(1_000),
            first_step_ms: Some(Millis::new(2_200)),
            ended_ms: None,
            version: 5,
            workers: vec![WorkerBody {
                id: "w1".to_owned(),
                node: "n1".to_owned(),
                pid: Some(42),
                state: "running".to_owned(),
                shards: Some(ShardsBody { from: 0, to: 8 }),
                server: true,
                replica: false,
            }],
            workers_wanted: WorkersWantedBody { min: 1, target: 1, max: 2 },
            membership_epoch: 1,
            progress: Some(ProgressBody {
                step: 40,
                steps_total: 120,
                epoch: 1,
                epochs_total: 3,
                samples: 1_500,
                loss: 0.3127,
                samples_per_second: 52_340.2,
                pause_ms: 2,
            }),
            data: Some(DataBody { waited_share: 0.003, local_bytes: 1_204_500_000, remote_bytes: 0, store_bytes: 0 }),
            epochs: Vec::new(),
            checkpoints: String::new(),
            checkpoint: None,
            rate_micro_usd_per_hour: MicroUsdPerHour::new(80_000),
            cost: CostBody { total_micro_usd: MicroUsd::new(1_200), ..CostBody::default() },
            budget: None,
            recoveries: 0,
            result: None,
            answer: None,
        }
    }

    #[test]
    fn what_the_data_cost_is_said_in_megabytes() {
        let text = data_text(&job().data.unwrap());
        assert_eq!(text, "waited for 0.30 % of the time; 1,204 MB of samples read on their nodes, 0 MB sent by others");
    }

    #[test]
    fn the_exit_code_says_how_a_job_stands() {
        let mut job = job();
        assert_eq!(Exit::of_job(&job), Exit::JobNotFinished);
        for (state, reason, exit) in [
            (JobStateBody::Succeeded, None, Exit::Ok),
            (JobStateBody::Failed, Some("user_error"), Exit::JobFailed),
            (JobStateBody::Failed, Some("retries_exhausted"), Exit::RetriesExhausted),
            (JobStateBody::Cancelled, Some("user"), Exit::JobCancelled),
        ] {
            job.state = state;
            job.reason = reason.map(str::to_owned);
            assert_eq!(Exit::of_job(&job), exit);
        }
    }

    #[test]
    fn a_followed_log_is_a_json_object_a_line_where_asked_for() {
        assert_eq!(log_text("a \"b\"\n", Format::Jsonl), "{\"line\":\"a \\\"b\\\"\"}\n");
    }
}
