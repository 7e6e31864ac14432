//! What `neap run` says before a job starts: its plan in short, and the question whether to go on.
//!
//! Scripts must not hang, so only a person at a terminal is asked, and not with `-y`. Everybody else is shown the plan and
//! goes on. Where no plan can be made, the reason is shown instead and the job starts: a plan is advice.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use neap_scheduler::estimate::{PlanRefusal, UnsafeSpot};
use neap_scheduler::spec::JobSpec;

use crate::artifact::Artifact;
use crate::http::body::EstimateBody;

use super::Shell;
use super::args::RunArgs;
use super::exit::CliError;
use super::plan::{How, Shown, make};

/// How long the job's steps are measured: less than for `neap plan`, because somebody waits for the job.
const MEASURE: Duration = Duration::from_millis(300);

/// What came of it.
pub(super) enum Consent {
    /// The job is to start; with what it is expected to cost, where that is known.
    Start(Option<EstimateBody>),
    /// It is not.
    Declined,
    /// It cannot be done in time, or would hardly ever be done.
    Hopeless(PlanRefusal),
}

/// Plans the job, shows it, and asks where somebody is there to answer.
pub(super) fn consent(shell: &Shell, args: &RunArgs, spec: &JobSpec, artifact: Option<&Artifact>) -> Consent {
    let limited = spec.budget.is_some_and(|budget| budget.max_cost.is_some()) && !args.force;
    if shell.output.quiet && !limited {
        return Consent::Start(None);
    }
    let unsafe_spot = if args.force { UnsafeSpot::Allow } else { UnsafeSpot::Refuse };
    let how = How { trace: None, measure: MEASURE, seed: 0, unsafe_spot, artifact };
    let plan = make(shell, spec, &how);
    match &plan {
        Err(CliError::NoPlan(refusal @ (PlanRefusal::DeadlineUnreachable { .. } | PlanRefusal::UnsafeSpot { .. })))
            if !args.force =>
        {
            return Consent::Hopeless(refusal.clone());
        }
        Ok(plan) => shell.output.remark(plan.brief().trim_end()),
        Err(why) => shell.output.remark(&format!("no plan: {}", why.chain())),
    }
    let plan = plan.ok();
    // What the control plane refuses anyway is not asked for.
    let refused = limited && plan.as_ref().is_some_and(Shown::is_over_budget);
    let person = io::stdin().is_terminal() && io::stderr().is_terminal();
    if person && !args.yes && !refused && !shell.output.quiet && !ask(shell) {
        return Consent::Declined;
    }
    Consent::Start(plan.as_ref().and_then(Shown::estimate))
}

fn ask(shell: &Shell) -> bool {
    let mut answer = String::new();
    loop {
        // Nobody sees the question when standard error is gone, and then nobody answers.
        let _ = write!(io::stderr(), "Start it? [Y/n] ");
        answer.clear();
        match io::stdin().lock().read_line(&mut answer) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        match meaning(&answer) {
            Some(yes) => return yes,
            None => shell.output.warn("answer y or n; Enter alone is yes"),
        }
    }
}

/// Yes where nothing is said, nothing where it cannot be told.
fn meaning(answer: &str) -> Option<bool> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "" | "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::meaning;

    #[test]
    fn an_answer_is_yes_or_no_or_asked_for_again() {
        for (answer, means) in [
            ("\n", Some(true)),
            ("y\n", Some(true)),
            (" YES \n", Some(true)),
            ("n\n", Some(false)),
            ("No\n", Some(false)),
            ("nope\n", None),
            ("yn", None),
        ] {
            assert_eq!(meaning(answer), means, "{answer:?}");
        }
    }
}
