//! Axes of figures: what they span, where their ticks are and what stands beside those.
//!
//! Times are seconds. Their ticks are lengths that people think in (10 min, 6 h, 2 d), not powers of ten of one unit.

use std::ops::Range;

/// About how many ticks fit beside each other in a narrow figure.
const TICKS_MAX: usize = 6;

/// Decades a logarithmic axis spans at most; what is smaller is drawn at its left edge.
const DECADES_MAX: f64 = 6.0;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;

/// Steps between ticks of a linear axis of time.
const TIME_STEPS: [f64; 27] = [
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    MINUTE,
    2.0 * MINUTE,
    5.0 * MINUTE,
    10.0 * MINUTE,
    30.0 * MINUTE,
    HOUR,
    2.0 * HOUR,
    3.0 * HOUR,
    6.0 * HOUR,
    12.0 * HOUR,
    DAY,
    2.0 * DAY,
    5.0 * DAY,
    10.0 * DAY,
    20.0 * DAY,
    50.0 * DAY,
    100.0 * DAY,
    200.0 * DAY,
    500.0 * DAY,
    1_000.0 * DAY,
    2_000.0 * DAY,
    5_000.0 * DAY,
];

/// Ticks of a logarithmic axis of time, about a decade apart.
const TIME_DECADES: [f64; 11] =
    [0.01, 0.1, 1.0, 10.0, MINUTE, 10.0 * MINUTE, HOUR, 10.0 * HOUR, 4.0 * DAY, 40.0 * DAY, 400.0 * DAY];

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// One axis of a figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// What is drawn along it.
    pub(super) name: &'static str,
    scale: Scale,
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Time from nothing to `max` seconds.
    pub(super) fn time(name: &'static str, max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let coarse_enough = |step: &&f64| max / **step <= TICKS_MAX as f64;
        let step = TIME_STEPS.iter().find(coarse_enough).copied().unwrap_or(max);
        Self { name, scale: Scale::Linear, range: 0.0..max, ticks: ticks(step, max, length) }
    }

    /// Lengths of time that differ by orders of magnitude, up to the last of these in ascending order. Where all are
    /// nothing the axis is linear.
    pub(super) fn lengths(name: &'static str, ascending: &[f64]) -> Self {
        let max = ascending.last().copied().unwrap_or_default();
        let Some(least) = ascending.iter().copied().find(|value| *value > 0.0) else {
            return Self::time(name, max);
        };
        let low = least.max(max / 10f64.powf(DECADES_MAX));
        let before = |tick: &f64| *tick <= low;
        let start = TIME_DECADES.iter().copied().rfind(before).unwrap_or(low);
        let end = TIME_DECADES.iter().copied().find(|tick| *tick >= max && *tick > start).unwrap_or(2.0 * max);
        let within = TIME_DECADES.iter().filter(|tick| (start..=end).contains(*tick));
        let ticks = within.map(|tick| (*tick, length(*tick))).collect();
        Self { name, scale: Scale::Logarithmic, range: start..end, ticks }
    }

    /// Shares of a whole.
    pub(super) fn share(name: &'static str) -> Self {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        Self { name, scale: Scale::Linear, range: 0.0..1.0, ticks: ticks(0.25, 1.0, percent) }
    }

    /// Amounts from nothing to somewhat above `max`; `label` says how one is written.
    pub(super) fn amount(name: &'static str, max: f64, label: fn(f64) -> String) -> Self {
        let max = if max > 0.0 { max * 1.05 } else { 1.0 };
        let magnitude = 10f64.powf((max / TICKS_MAX as f64).log10().floor());
        let coarse_enough = |factor: &f64| max / (factor * magnitude) <= TICKS_MAX as f64;
        let factor = [1.0, 2.0, 5.0].into_iter().find(coarse_enough).unwrap_or(10.0);
        Self { name, scale: Scale::Linear, range: 0.0..max, ticks: ticks(factor * magnitude, max, label) }
    }

    /// Where a value is: linear in what is drawn, and never left of the axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(self.range.start).log10(),
        }
    }

    /// The places that it spans.
    pub(super) fn places(&self) -> Range<f64> {
        self.place(self.range.start)..self.place(self.range.end)
    }

    /// The places of its ticks, with what stands beside each.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.iter().map(|(value, label)| (self.place(*value), label.as_str()))
    }
}

fn ticks(step: f64, max: f64, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let values = (0_u32..).map(|number| f64::from(number) * step).take_while(|value| *value <= max * (1.0 + 1e-9));
    values.map(|value| (value, label(value))).collect()
}

/// `0`, `30 s`, `10 min`, `6 h`, `2 d`.
fn length(seconds: f64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s")];
    // Days are counted from two on, so that 24 h stands between 12 h and 36 h.
    let fits = |unit: &&(f64, &str)| seconds >= unit.0 * if unit.0 == DAY { 2.0 } else { 1.0 };
    match units.iter().find(fits) {
        Some((unit, name)) => format!("{} {name}", plain(seconds / unit)),
        None if seconds == 0.0 => "0".to_owned(),
        None => format!("{} s", plain(seconds)),
    }
}

/// A number without digits that say nothing.
pub(super) fn plain(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_lengths_that_people_think_in() {
        assert_eq!(labels(&Axis::time("", 1_500.0)), ["0", "5 min", "10 min", "15 min", "20 min", "25 min"]);
        assert_eq!(labels(&Axis::time("", 40.0 * HOUR)), ["0", "12 h", "24 h", "36 h"]);
        assert_eq!(labels(&Axis::lengths("", &[0.0, 90.0, 30_000.0])), ["1 min", "10 min", "1 h", "10 h"]);
        assert_eq!(labels(&Axis::amount("", 57.0, plain)), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(labels(&Axis::share("")), ["0 %", "25 %", "50 %", "75 %", "100 %"]);
    }

    #[test]
    fn every_axis_spans_something_and_holds_its_values() {
        for values in [&[][..], &[0.0], &[1e-9], &[5.0], &[60.0], &[0.0, 1e-3, 1e12]] {
            let axis = Axis::lengths("", values);
            let places = axis.places();
            assert!(places.start < places.end && places.start.is_finite(), "{values:?}: {axis:?}");
            assert!(values.iter().all(|value| (places.start..=places.end).contains(&axis.place(*value))), "{axis:?}");
            let axis = Axis::time("", values.last().copied().unwrap_or_default());
            assert!(axis.places().start < axis.places().end && axis.ticks.len() <= TICKS_MAX + 1, "{axis:?}");
        }
    }
}
