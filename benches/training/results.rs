//! What was measured, and the tables of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bounds::Bound;

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    pub(crate) wall_seconds: f64,
    /// Of all processes that took part.
    pub(crate) cpu_seconds: f64,
    /// Samples, rounds or bytes; see [`Part::units`].
    pub(crate) units: f64,
    /// Steps, gradients or payloads.
    pub(crate) steps: f64,
    /// What a peer said about it.
    pub(crate) peer: Option<Value>,
}

/// A part of the bench. Each has a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Mlp,
    Cnn,
    Rounds,
    Quinn,
    Memory,
}

impl Part {
    pub(crate) const ALL: [Self; 5] = [Self::Mlp, Self::Cnn, Self::Rounds, Self::Quinn, Self::Memory];

    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::Cnn => "cnn",
            Self::Rounds => "rounds",
            Self::Quinn => "quinn",
            Self::Memory => "memory",
        }
    }

    /// The unit of its table, how many units of a measurement are one of it, and what a step is called.
    fn units(self) -> (&'static str, f64, &'static str) {
        match self {
            Self::Mlp | Self::Cnn => ("samples", 1.0, "step"),
            Self::Rounds => ("rounds", 1.0, "gradient"),
            Self::Quinn => ("GB", 1e9, "payload"),
            Self::Memory => ("kB", 1e3, "step"),
        }
    }
}

/// All measurements, by part and row.
#[derive(Default)]
pub(crate) struct Results {
    measured: BTreeMap<(Part, String), Vec<Measurement>>,
    /// Why a row lacks measurements.
    faults: BTreeMap<(Part, String), String>,
}

impl Results {
    pub(crate) fn add(&mut self, part: Part, row: &str, measurement: Measurement) {
        self.measured.entry((part, row.to_owned())).or_default().push(measurement);
    }

    pub(crate) fn fail(&mut self, part: Part, row: &str, why: &str) {
        self.faults.insert((part, row.to_owned()), why.to_owned());
    }

    /// Median of the units a second.
    pub(crate) fn rate(&self, part: Part, row: &str) -> Option<f64> {
        self.median(part, row, |m| m.units / m.wall_seconds)
    }

    /// Median of the units a CPU-second.
    pub(crate) fn per_cpu_second(&self, part: Part, row: &str) -> Option<f64> {
        self.median(part, row, |m| m.units / m.cpu_seconds)
    }

    /// Median of the CPU milliseconds of a step.
    pub(crate) fn cpu_ms(&self, part: Part, row: &str) -> Option<f64> {
        self.median(part, row, |m| m.cpu_seconds * 1e3 / m.steps)
    }

    fn median(&self, part: Part, row: &str, value: impl Fn(&Measurement) -> f64) -> Option<f64> {
        let values = self.sorted(part, row, value)?;
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some((low + high) / 2.0)
    }

    fn sorted(&self, part: Part, row: &str, value: impl Fn(&Measurement) -> f64) -> Option<Vec<f64>> {
        let mut values: Vec<f64> = self.measured.get(&(part, row.to_owned()))?.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        Some(values)
    }

    /// A part's table in Markdown: medians, the spread of the rate, and the bounds of each row beside it.
    pub(crate) fn table(&self, part: Part, rows: &[String], bounds: &[Bound]) -> String {
        let (unit, size, step) = part.units();
        let mut text = format!("### {}\n\n", part.name());
        text += &format!("| | {unit}/s | lowest to highest | {unit} a CPU-second | CPU ms a {step} | against |\n");
        text += "|---|---|---|---|---|---|\n";
        for row in rows {
            let Some(rates) = self.sorted(part, row, |m| m.units / m.wall_seconds / size) else {
                let why = self.faults.get(&(part, row.clone())).map_or("", String::as_str);
                text += &format!("| {row} | **NOT MEASURED** | | | | {why} |\n");
                continue;
            };
            let figure = |value: Option<f64>| value.map_or_else(String::new, figure);
            let said: Vec<String> = bounds.iter().filter(|bound| bound.row == *row).map(Bound::to_string).collect();
            text += &format!(
                "| {row} | {} | {} to {} | {} | {} | {} |\n",
                figure(self.rate(part, row).map(|rate| rate / size)),
                figure(rates.first().copied()),
                figure(rates.last().copied()),
                figure(self.per_cpu_second(part, row).map(|rate| rate / size)),
                figure(self.cpu_ms(part, row)),
                said.join("; "),
            );
        }
        text
    }
}

/// A measurement as a line of JSON.
pub(crate) fn line(part: Part, row: &str, round: usize, measurement: &Measurement) -> Value {
    let Measurement { wall_seconds, cpu_seconds, units, steps, ref peer } = *measurement;
    let (unit, _, step) = part.units();
    json!({
        "bench": "training",
        "part": part.name(),
        "row": row,
        "round": round,
        "units": units,
        "unit": if part == Part::Quinn { "bytes" } else { unit },
        "steps": steps,
        "step": step,
        "wall_s": wall_seconds,
        "cpu_s": cpu_seconds,
        "load1": load(),
        "peer": peer,
    })
}

/// How busy the machine was over the last minute.
pub(crate) fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// A number with three or four digits that say something, and commas between thousands.
pub(crate) fn figure(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 1_000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
