//! The figures that simulations are compared by, as lines for people, as JSON, and as rows of the report.

use neap_scheduler::model::{MicroUsd, Millis};
use neap_scheduler::sim::adaptive::at_share;
use neap_scheduler::sim::cluster::{JobOutcome, Report};
use serde_json::{Value, json};

use crate::cli::output::fields;
use crate::cli::report::ascending;

/// The figures of one simulation.
pub(super) struct Summary {
    policy: String,
    jobs: usize,
    unfinished: usize,
    /// Mean, p50 and p99, seconds.
    completion_s: [f64; 3],
    wait_s: f64,
    makespan: Millis,
    /// The time of all accelerators together.
    gpu_time: Millis,
    worker_time: Millis,
    cost: MicroUsd,
    restarts: u64,
    decisions: u64,
}

impl Summary {
    pub(super) fn of(policy: &str, report: &Report) -> Self {
        let times = ascending(report, JobOutcome::completion);
        let sum =
            |time: fn(&JobOutcome) -> Millis| report.jobs.iter().map(time).fold(Millis::ZERO, |sum, one| sum + one);
        Self {
            policy: policy.to_owned(),
            jobs: report.jobs.len(),
            unfinished: report.unfinished(),
            completion_s: [report.mean_completion_s(), at_share(&times, 0.5), at_share(&times, 0.99)],
            wait_s: report.mean_wait_s(),
            makespan: report.makespan(),
            gpu_time: sum(|job| job.gpu_time),
            worker_time: sum(|job| job.worker_time),
            cost: report.cost(),
            restarts: report.jobs.iter().map(|job| u64::from(job.preemptions)).sum(),
            decisions: report.rounds,
        }
    }

    /// Names, values and how the values are written.
    fn entries(&self) -> Vec<(&'static str, f64, String)> {
        let hours = |seconds: f64| (seconds, format!("{:.2} h", seconds / 3_600.0));
        let count = |number: u64| (number as f64, number.to_string());
        let per_job = |time: Millis| {
            let hours = time.as_secs_f64() / 3_600.0 / self.jobs.max(1) as f64;
            (hours, format!("{hours:.2}"))
        };
        let [mean, p50, p99] = self.completion_s;
        let used = if self.gpu_time > Millis::ZERO {
            ("GPU-hours per job", per_job(self.gpu_time))
        } else {
            ("worker-hours per job", per_job(self.worker_time))
        };
        let entries = [
            ("jobs", count(self.jobs as u64)),
            ("did not end", count(self.unfinished as u64)),
            ("mean completion", hours(mean)),
            ("p50 completion", hours(p50)),
            ("p99 completion", hours(p99)),
            ("mean wait", hours(self.wait_s)),
            ("makespan", hours(self.makespan.as_secs_f64())),
            used,
            ("cost", (self.cost.as_dollars(), self.cost.to_string())),
            ("restarts", count(self.restarts)),
            ("decisions", count(self.decisions)),
        ];
        entries.into_iter().map(|(name, (value, text))| (name, value, text)).collect()
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![("policy", Some(self.policy.clone()))];
        lines.extend(self.entries().into_iter().map(|(name, _, text)| (name, Some(text))));
        fields(&lines)
    }

    pub(super) fn json(&self) -> Value {
        let [mean, p50, p99] = self.completion_s;
        json!({
            "policy": self.policy,
            "jobs": self.jobs,
            "unfinished": self.unfinished,
            "completion_s": { "mean": mean, "p50": p50, "p99": p99 },
            "mean_wait_s": self.wait_s,
            "makespan_s": self.makespan.as_secs_f64(),
            "gpu_time_s": self.gpu_time.as_secs_f64(),
            "worker_time_s": self.worker_time.as_secs_f64(),
            "cost_micro_usd": self.cost,
            "restarts": self.restarts,
            "decisions": self.decisions,
        })
    }
}

/// Rows of the report: a name, the value under each policy, and between two the change.
pub(super) fn rows(summaries: &[Summary]) -> Vec<(String, Vec<String>)> {
    let columns: Vec<_> = summaries.iter().map(Summary::entries).collect();
    let Some(first) = columns.first() else { return Vec::new() };
    let row = |(at, (name, ..)): (usize, &(&'static str, f64, String))| {
        let mut values: Vec<String> = columns.iter().map(|column| column[at].2.clone()).collect();
        if let [before, after] = columns.as_slice() {
            values.push(change(before[at].1, after[at].1));
        }
        ((*name).to_owned(), values)
    };
    first.iter().enumerate().map(row).collect()
}

/// `+12.5 %`; nothing where there was nothing to compare with.
fn change(before: f64, after: f64) -> String {
    if before == after {
        return "same".to_owned();
    }
    if before == 0.0 { "new".to_owned() } else { format!("{:+.1} %", (after / before - 1.0) * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_written_with_their_sign() {
        for (before, after, text) in
            [(2.0, 3.0, "+50.0 %"), (4.0, 3.0, "-25.0 %"), (0.0, 0.0, "same"), (0.0, 1.0, "new")]
        {
            assert_eq!(change(before, after), text);
        }
    }
}
