//! Rounds that a control plane recorded: decided again, and made into a world for other policies.

use std::path::{Path, PathBuf};

use neap_scheduler::model::JobId;
use neap_scheduler::policy::Policy;
use neap_scheduler::replay::{PlanDifference, PlanDifferences, Recording, RoundRecord, compare_plans};
use neap_scheduler::sim::cluster::{RecordedWorld, recorded_world};
use serde_json::{Value, json};

use super::case::read;
use crate::chain::chain;
use crate::cli::Shell;
use crate::cli::args::ReplayArgs;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::instant;

/// Names that are spelled out where jobs are listed in a remark.
const NAMES_SHOWN: usize = 5;

/// The rounds of one file, or of a control plane's home folder with what it put aside before.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Each file with its rounds, the older one first.
    files: Vec<(PathBuf, Recording)>,
}

impl Rounds {
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let files = if path.is_dir() {
            let old = path.join("rounds.old.jsonl");
            let old = old.exists().then_some(old);
            old.into_iter().chain([path.join("rounds.jsonl")]).collect()
        } else {
            vec![path.to_owned()]
        };
        let parsed = |path: PathBuf| {
            let recording = Recording::read(&read(&path)?).map_err(|error| {
                let why = chain(&error.source);
                CliError::Usage(format!("{}:{}: {why}", path.display(), error.line))
            })?;
            Ok((path, recording))
        };
        Ok(Self { files: files.into_iter().map(parsed).collect::<Result<_, CliError>>()? })
    }

    fn all(&self) -> impl Iterator<Item = (&Path, u64, &RoundRecord)> {
        self.files
            .iter()
            .flat_map(|(path, recording)| recording.rounds.iter().map(|(line, round)| (path.as_path(), *line, round)))
    }

    /// The jobs and offers of the recording as a world, and what to know about it.
    pub(super) fn world(&self, seed: u64) -> (RecordedWorld, Vec<String>) {
        let found = recorded_world(self.all().map(|(_, _, round)| round), seed);
        let mut notes = self.notes();
        let names = |jobs: &[JobId]| {
            let mut names: Vec<String> = jobs.iter().take(NAMES_SHOWN).map(JobId::to_string).collect();
            names.extend((jobs.len() > NAMES_SHOWN).then(|| "...".to_owned()));
            names.join(", ")
        };
        if !found.unfinished.is_empty() {
            let jobs = names(&found.unfinished);
            notes.push(format!("not ended when the recording did, so only the work seen of them counts: {jobs}"));
        }
        if !found.left_out.is_empty() {
            notes.push(format!("left out, for they never ran: {}", names(&found.left_out)));
        }
        (found, notes)
    }

    /// A remark for each file whose last line was cut short.
    fn notes(&self) -> Vec<String> {
        let torn = |(path, recording): &(PathBuf, Recording)| {
            let line = recording.torn?;
            Some(format!("{}:{line}: cut short while it was written; read up to it", path.display()))
        };
        self.files.iter().filter_map(torn).collect()
    }

    /// How each policy's plans differ from the recorded ones.
    pub(super) fn compare(&self, policies: &[String]) -> Result<PlanComparison, CliError> {
        let compare = |name: &String| {
            let policy = <dyn Policy>::by_name(name).map_err(|error| CliError::Usage(error.to_string()))?;
            let (differing, first) = self.differences(policy.as_ref());
            Ok(PolicyPlans { policy: name.clone(), differing, first })
        };
        let by_policy = policies.iter().map(compare).collect::<Result<_, CliError>>()?;
        Ok(PlanComparison { rounds: self.all().count(), by_policy })
    }

    fn differences(&self, policy: &dyn Policy) -> (u64, Option<(PathBuf, PlanDifference)>) {
        let mut all = (0, None);
        for (path, recording) in &self.files {
            let PlanDifferences { differing, first } = compare_plans(recording, policy);
            all.0 += differing;
            all.1 = all.1.or_else(|| first.map(|first| (path.clone(), first)));
        }
        all
    }
}

/// How the plans of some policies differ from the recorded ones.
pub(super) struct PlanComparison {
    rounds: usize,
    by_policy: Vec<PolicyPlans>,
}

/// Rounds in which a policy would have done something else, and the first of them with its file.
struct PolicyPlans {
    policy: String,
    differing: u64,
    first: Option<(PathBuf, PlanDifference)>,
}

impl PlanComparison {
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for PolicyPlans { policy, differing, first } in &self.by_policy {
            lines.push(format!("{policy} would have planned otherwise in {differing} of {} rounds", self.rounds));
            let Some((path, first)) = first else { continue };
            let list = |effects: &[String]| if effects.is_empty() { "nothing".to_owned() } else { effects.join(", ") };
            lines.push(format!(
                "first at {} ({}:{}): recorded was to {}; {policy} would {}",
                instant(first.at),
                path.display(),
                first.line,
                list(&first.only_recorded),
                list(&first.only_planned),
            ));
        }
        lines
    }

    pub(super) fn json(&self) -> Value {
        let first = |(path, first): &(PathBuf, PlanDifference)| {
            json!({
                "file": path.display().to_string(),
                "line": first.line,
                "at_ms": first.at,
                "only_recorded": first.only_recorded,
                "only_planned": first.only_planned,
            })
        };
        let plans = self.by_policy.iter().map(|plans| {
            json!({ "policy": plans.policy, "differing": plans.differing, "first": plans.first.as_ref().map(first) })
        });
        json!({ "rounds": self.rounds, "plans": plans.collect::<Vec<Value>>() })
    }
}

/// Decides recorded rounds again: each must give the plan that was carried out.
pub(in crate::cli) fn replay(shell: &Shell, args: &ReplayArgs) -> Result<Exit, CliError> {
    let recorded = Rounds::read(&args.file)?;
    recorded.notes().iter().for_each(|note| shell.output.remark(note));
    let mut differing = Vec::new();
    for (path, line, round) in recorded.all() {
        let broken = |error| CliError::Usage(format!("{}:{line}: {}", path.display(), chain(&error)));
        if !round.replay().map_err(broken)?.identical {
            differing.push(line);
        }
    }
    let rounds = recorded.all().count();
    let document = json!({ "rounds": rounds, "differing_lines": differing });
    shell.output.document(&document, &args.file.display().to_string(), || match differing.as_slice() {
        [] => format!("{rounds} rounds, every plan the same byte for byte\n"),
        lines => format!("{rounds} rounds; another plan in lines {lines:?}\n"),
    })?;
    Ok(if differing.is_empty() { Exit::Ok } else { Exit::Conflict })
}
