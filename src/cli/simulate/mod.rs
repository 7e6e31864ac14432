//! `neap simulate`: a recorded trace under a policy, two policies on one trace, and rounds of a control plane decided again.
//!
//! Offline. The simulation is the scheduler crate's; here files become worlds (`case`), reports become tables
//! (`summary`) and, with `--report`, a page of figures.

mod case;
mod rounds;
mod summary;

use std::fs;

use neap_scheduler::sim::cluster::{JobChange, Report, diff as changes};
use serde_json::{Value, json};

use super::Shell;
use super::args::{DiffArgs, SimulateArgs, WorldArgs};
use super::exit::{CliError, Exit};
use super::report::{Course, Page, page};
use case::Case;
use rounds::PlanComparison;
pub(super) use rounds::replay;
use summary::{Summary, rows};

/// Jobs listed by `diff`, those with the largest change.
const CHANGES_SHOWN: usize = 10;

pub(super) fn run(shell: &Shell, args: &SimulateArgs) -> Result<Exit, CliError> {
    let case = Case::read(&args.world)?;
    case.notes.iter().for_each(|note| shell.output.remark(note));
    let simulated = [case.simulate(&args.policy)?];
    write_report(shell, &args.world, &case, &simulated, Vec::new())?;
    let [(policy, report)] = &simulated;
    let summary = Summary::of(policy, report);
    shell.output.document(&summary.json(), policy, || summary.text())?;
    Ok(Exit::Ok)
}

/// What would change with another policy.
pub(super) fn diff(shell: &Shell, args: &DiffArgs) -> Result<Exit, CliError> {
    let [before, after] = args.policy.as_slice() else {
        return Err(CliError::Usage("give two policies: --policy A --policy B".to_owned()));
    };
    let case = Case::read(&args.world)?;
    case.notes.iter().for_each(|note| shell.output.remark(note));
    let simulated = [case.simulate(before)?, case.simulate(after)?];
    let changes = sorted_changes(&simulated[0].1, &simulated[1].1);
    let plans = case.rounds.as_ref().map(|rounds| rounds.compare(&args.policy)).transpose()?;
    let mut shown = lines_of(&changes, simulated[0].1.jobs.len());
    shown.extend(plans.iter().flat_map(PlanComparison::lines));
    write_report(shell, &args.world, &case, &simulated, shown.clone())?;
    let [old, new] = simulated.each_ref().map(|(policy, report)| Summary::of(policy, report));
    let listed = changes.iter().map(|job| {
        json!({ "job": job.name, "wait_s": job.wait_s, "completion_s": job.completion_s, "cost_usd": job.cost_usd })
    });
    let document = json!({
        "before": old.json(),
        "after": new.json(),
        "jobs": listed.collect::<Vec<Value>>(),
        "recording": plans.map(|plans| plans.json()),
    });
    let text = || format!("{}\n{}\n{}\n", old.text(), new.text(), shown.join("\n"));
    shell.output.document(&document, after, text)?;
    Ok(Exit::Ok)
}

/// The jobs that fared differently, those whose end moved most first.
fn sorted_changes(before: &Report, after: &Report) -> Vec<JobChange> {
    let mut jobs = changes(before, after);
    let size = |change: Option<f64>| change.unwrap_or_default().abs();
    jobs.sort_by(|left, right| size(right.completion_s).total_cmp(&size(left.completion_s)));
    jobs
}

/// How many jobs fared differently, and the first of them.
fn lines_of(changes: &[JobChange], jobs: usize) -> Vec<String> {
    let mut lines = vec![format!("{} of {jobs} jobs fared differently", changes.len())];
    lines.extend(changes.iter().take(CHANGES_SHOWN).map(|job| {
        let seconds = |change: Option<f64>| change.map_or("-".to_owned(), |seconds| format!("{seconds:+.0} s"));
        let (wait, done) = (seconds(job.wait_s), seconds(job.completion_s));
        format!("  {}: wait {wait}, completion {done}, cost {:+.2} $", job.name, job.cost_usd)
    }));
    lines
}

/// Writes the page of figures, if one is asked for.
fn write_report(
    shell: &Shell,
    args: &WorldArgs,
    case: &Case,
    simulated: &[(String, Report)],
    remarks: Vec<String>,
) -> Result<(), CliError> {
    let Some(path) = &args.report else { return Ok(()) };
    let courses: Vec<Course<'_>> = simulated.iter().map(|(policy, report)| Course { policy, report }).collect();
    let summaries: Vec<Summary> = simulated.iter().map(|(policy, report)| Summary::of(policy, report)).collect();
    let mut made = vec![
        ("command", shell.typed()),
        ("trace", args.trace.display().to_string()),
        ("cluster", case.cluster.clone()),
        ("seed", args.seed.to_string()),
        ("version", format!("neap {}", env!("CARGO_PKG_VERSION"))),
    ];
    made.extend(case.notes.iter().map(|note| ("note", note.clone())));
    let text = page(&Page { trace: &case.name, courses: &courses, summary: rows(&summaries), remarks, made })?;
    fs::write(path, text).map_err(|source| CliError::WriteFile { path: path.clone(), source })?;
    shell.output.remark(&format!("{} shows the figures", path.display()));
    Ok(())
}
