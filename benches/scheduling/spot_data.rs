//! The recorded instances that `spot` runs, and what the peers paid for them.

use std::collections::BTreeMap;

use neap_scheduler::model::{MicroUsd, Millis};
use neap_scheduler::sim::read_rows;
use neap_scheduler::sim::spot::{
    JobTerms, MoveCost, Rules, Visibility, Window, ZoneTrace, read_step_function, read_zone_traces,
};
use serde::Deserialize;

use crate::recorded::read;

pub(crate) fn zones(file: &str) -> Result<Vec<ZoneTrace>, Box<dyn std::error::Error>> {
    Ok(read_zone_traces(file, &read(&format!("spot/{file}.jsonl"))?)?)
}

/// How many steps a step-function recording has; reading it is the check.
pub(crate) fn steps(file: &str) -> Result<usize, Box<dyn std::error::Error>> {
    Ok(read_step_function(file, &read(&format!("spot/{file}.csv"))?)?.len())
}

pub(crate) fn hours(hours: f64) -> Millis {
    Millis::new((hours * 3.6e6).round() as u64)
}

/// The first tick at or after `start` hours; published starts are rounded, so a hair before a tick counts as on it.
pub(crate) fn start_tick(start: f64, tick: Millis) -> usize {
    (start * 3.6e6 / tick.get() as f64 - 1e-5).ceil().max(0.0) as usize
}

/// One published run in one zone.
#[derive(Debug, Deserialize)]
pub(crate) struct OneZone {
    pub(crate) zone: String,
    pub(crate) instance: String,
    pub(crate) task_h: f64,
    pub(crate) deadline_h: f64,
    pub(crate) overhead_h: f64,
    pub(crate) start_h: f64,
    pub(crate) on_demand: f64,
    pub(crate) greedy: f64,
    pub(crate) uniform_progress: f64,
    pub(crate) omniscient: f64,
}

impl OneZone {
    pub(crate) fn terms(&self) -> JobTerms {
        JobTerms { work: hours(self.task_h), deadline: hours(self.deadline_h), restart: hours(self.overhead_h) }
    }

    pub(crate) fn window<'a>(&self, zones: &'a [ZoneTrace]) -> Option<Window<'a>> {
        let zone = zones.iter().find(|zone| zone.zone == self.zone && zone.instance == self.instance)?;
        Some(Window::one_zone(zone, start_tick(self.start_h, zone.tick)))
    }
}

pub(crate) fn one_zone_runs(set: &str) -> Result<Vec<OneZone>, Box<dyn std::error::Error>> {
    let file = format!("reference/spot_single_region_{set}.csv");
    Ok(read_rows(&file, &read(&file)?)?.into_iter().map(|row| row.value).collect())
}

/// One row of the published runs over many zones.
#[derive(Debug, Deserialize)]
struct ZonesRow {
    policy: String,
    task_duration: f64,
    deadline_hours: f64,
    deadline_ratio: f64,
    restart_overhead: f64,
    env_start_hours: f64,
    cost: f64,
}

/// One window over many zones, with what each published policy paid.
pub(crate) struct ManyZones {
    pub(crate) ratio: f64,
    pub(crate) start_h: f64,
    pub(crate) terms: JobTerms,
    pub(crate) paid: BTreeMap<String, f64>,
}

/// The windows of a published file, by deadline ratio; a ratio of 1 leaves no slack and is left out.
pub(crate) fn many_zone_runs(file: &str) -> Result<Vec<ManyZones>, Box<dyn std::error::Error>> {
    let file = format!("reference/{file}.csv");
    let mut runs: Vec<ManyZones> = Vec::new();
    for row in read_rows::<ZonesRow>(&file, &read(&file)?)?.into_iter().map(|row| row.value) {
        if row.deadline_ratio <= 1.0 || row.policy == "up_single" {
            continue;
        }
        let same = |run: &&mut ManyZones| run.ratio == row.deadline_ratio && run.start_h == row.env_start_hours;
        if let Some(run) = runs.iter_mut().find(same) {
            run.paid.insert(row.policy, row.cost);
            continue;
        }
        let exact = row.deadline_hours / row.deadline_ratio;
        let work = if (exact - row.task_duration).abs() < 1e-3 { exact } else { row.task_duration };
        let terms =
            JobTerms { work: hours(work), deadline: hours(row.deadline_hours), restart: hours(row.restart_overhead) };
        let paid = BTreeMap::from([(row.policy, row.cost)]);
        runs.push(ManyZones { ratio: row.deadline_ratio, start_h: row.env_start_hours, terms, paid });
    }
    runs.sort_by(|a, b| a.ratio.total_cmp(&b.ratio).then(a.start_h.total_cmp(&b.start_h)));
    Ok(runs)
}

/// Whether moves between regions take time. The published runs plan with it but do not spend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MoveTime {
    Counted,
    NotCounted,
}

/// A window over many zones by the rules of SkyNomad's artifact: a probe is a minute, the last tick is not charged.
pub(crate) fn many_zones<'a>(zones: &[&'a ZoneTrace], start: usize, move_time: MoveTime) -> Window<'a> {
    let rules = Rules { visibility: Visibility::ByTrying { probe: Millis::from_secs(60) }, last_tick_charged: false };
    let names: Vec<&str> = zones.iter().map(|zone| zone.zone.as_str()).collect();
    Window::new(zones.to_vec(), start, |from, to| move_cost(names[from], names[to], move_time), rules)
}

const CHECKPOINT_GB: f64 = 50.0;

/// 50 GB at 8,200 Mb/s within a continent and 3,590 across, less what the restart counts already (9,720 Mb/s), and 0.02
/// dollars a gigabyte, 0.01 between the two eastern regions of AWS; nothing within a region.
fn move_cost(from: &str, to: &str, move_time: MoveTime) -> MoveCost {
    let (from, to) = (region(from), region(to));
    if from == to {
        return MoveCost::default();
    }
    let continent = |region: &str| region.split('-').next().map(ToOwned::to_owned);
    let megabits_s = if continent(from) == continent(to) { 8_200.0 } else { 3_590.0 };
    let seconds = CHECKPOINT_GB * 8_192.0 * (1.0 / megabits_s - 1.0 / 9_720.0);
    let eastern = ["us-east-1", "us-east-2"];
    let usd_gb = if eastern.contains(&from) && eastern.contains(&to) { 0.01 } else { 0.02 };
    let time = if move_time == MoveTime::Counted { Millis::new((seconds * 1e3) as u64) } else { Millis::ZERO };
    MoveCost { time, money: MicroUsd::new((CHECKPOINT_GB * usd_gb * 1e6) as u64) }
}

/// The region of a zone: its name without the last letter.
fn region(zone: &str) -> &str {
    zone.trim_end_matches(|letter: char| letter.is_ascii_lowercase()).trim_end_matches('-')
}
