//! Medians, JSON lines and a table.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) enum Measure {
    Throughput(Throughput),
    Latencies(Latencies),
}

/// How much a second, and what processor time it took on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Throughput {
    pub(crate) per_second: f64,
    pub(crate) unit: &'static str,
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
    pub(crate) cpu_unit: &'static str,
}

impl Throughput {
    /// Bytes moved, and processor time in microseconds at client and server.
    pub(crate) fn of_bytes(bytes: usize, elapsed: Duration, cpu_us: (u64, u64)) -> Self {
        let gigabytes = bytes as f64 / 1e9;
        Self {
            per_second: gigabytes / elapsed.as_secs_f64(),
            unit: "GB/s",
            client_cpu: cpu_us.0 as f64 / 1e6 / gigabytes,
            server_cpu: cpu_us.1 as f64 / 1e6 / gigabytes,
            cpu_unit: "s/GB",
        }
    }
}

/// Percentiles in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Latencies {
    pub(crate) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// All rounds of every measure.
#[derive(Debug, Default)]
pub(crate) struct Report {
    only: Option<String>,
    keep: bool,
    order: Vec<(&'static str, &'static str)>,
    rounds: BTreeMap<(&'static str, &'static str), Vec<Measure>>,
}

impl Report {
    /// A report of the measures with this in their name, or of all.
    pub(crate) fn of(only: Option<String>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Whether what is added from now on counts.
    pub(crate) fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Takes one measure, if it is wanted.
    pub(crate) async fn add(
        &mut self,
        transport: &'static str,
        name: &'static str,
        measure: impl Future<Output = Measure>,
    ) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only)) {
            return;
        }
        let measure = measure.await;
        if !self.keep {
            return;
        }
        let rounds = self.rounds.entry((transport, name)).or_default();
        if rounds.is_empty() {
            self.order.push((transport, name));
        }
        rounds.push(measure);
    }

    pub(crate) fn print(&self) {
        let mut table = format!("{:<8}{:<22}{}\n", "", "measure", "median");
        for (transport, name) in &self.order {
            let (json, text) = summary(&self.rounds[&(*transport, *name)]);
            println!("{{\"transport\":\"{transport}\",\"measure\":\"{name}\",{json}}}");
            table.push_str(&format!("{transport:<8}{name:<22}{text}\n"));
        }
        println!("\n{table}");
    }
}

/// The medians of all rounds, as JSON fields and as text.
fn summary(rounds: &[Measure]) -> (String, String) {
    let median = |value: &dyn Fn(&Measure) -> Option<f64>| {
        let mut values: Vec<f64> = rounds.iter().filter_map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let throughput = |field: fn(&Throughput) -> f64| {
        median(&move |measure| match measure {
            Measure::Throughput(throughput) => Some(field(throughput)),
            Measure::Latencies(_) => None,
        })
    };
    let latency = |field: fn(&Latencies) -> f64| {
        median(&move |measure| match measure {
            Measure::Latencies(latencies) => Some(field(latencies)),
            Measure::Throughput(_) => None,
        })
    };
    match &rounds[0] {
        Measure::Throughput(Throughput { unit, cpu_unit, .. }) => {
            let (rate, client, server) =
                (throughput(|t| t.per_second), throughput(|t| t.client_cpu), throughput(|t| t.server_cpu));
            (
                format!(
                    "\"value\":{rate:.3},\"unit\":\"{unit}\",\"client_cpu\":{client:.3},\"server_cpu\":{server:.3},\
                     \"cpu_unit\":\"{cpu_unit}\""
                ),
                format!("{rate:>12.2} {unit:<8} cpu {client:.2} + {server:.2} {cpu_unit}"),
            )
        }
        Measure::Latencies(_) => {
            let (p50, p99, max) = (latency(|l| l.p50), latency(|l| l.p99), latency(|l| l.max));
            (
                format!("\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\"max_us\":{max:.1}"),
                format!("{p50:>12.1} us p50   {p99:.1} us p99, {max:.1} us max"),
            )
        }
    }
}
