//! The bodies about money: budgets of scopes, forecasts, parts of the bill, offers.

use neap_scheduler::model::{CpuMillis, MemoryMib, MicroUsd, MicroUsdPerHour, Millis};
use serde::{Deserialize, Serialize};

/// A change of what the organisation or a project may spend. What is left out stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetBudgetBody {
    /// In all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_micro_usd: Option<MicroUsd>,
    /// In a calendar month (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_micro_usd_per_month: Option<MicroUsd>,
    /// All nodes together, at any moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_micro_usd_per_hour: Option<MicroUsdPerHour>,
    /// The share of a limit, 0 to 1, whose spending is worth a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_at: Option<f64>,
    /// Whether the whole budget is removed; nothing else is given then.
    pub remove: bool,
}

/// What a scope may spend, and what it has spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopeBudgetBody {
    /// `organisation`, `project/NAME` or `job/ID`.
    pub scope: String,
    /// The job's name, where it is a job's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// In all.
    pub max_cost_micro_usd: Option<MicroUsd>,
    /// In a calendar month (UTC).
    pub max_cost_micro_usd_per_month: Option<MicroUsd>,
    /// All nodes together, at any moment.
    pub max_cost_micro_usd_per_hour: Option<MicroUsdPerHour>,
    /// The share of a limit, 0 to 1, whose spending is worth a warning.
    pub warn_at: f64,
    /// Since when these limits hold.
    pub set_ms: Option<Millis>,
    /// This month (UTC), as in `2026-11`.
    pub month: String,
    /// What was spent in all.
    pub spent_micro_usd: MicroUsd,
    /// What was spent this month.
    pub spent_this_month_micro_usd: MicroUsd,
    /// What is set aside beyond that, until the nodes that run can be gone.
    pub reserved_micro_usd: MicroUsd,
    /// What could still be set aside for new nodes; nothing where money is not limited.
    pub left_micro_usd: Option<MicroUsd>,
    /// The price of what runs now.
    pub rate_micro_usd_per_hour: MicroUsdPerHour,
    /// The limits of which the share that is worth a warning is spent.
    pub warned: Vec<String>,
}

/// What is expected to be spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastBody {
    /// From when on.
    pub from_ms: Millis,
    /// Until when.
    pub until_ms: Millis,
    /// Whole days of history that it rests on; nothing where there are too few to learn from.
    pub history_days: Option<usize>,
    /// How long ago the first money was spent.
    pub history_ms: Millis,
    /// Nodes that run.
    pub running_nodes: usize,
    /// Of them, those whose end nobody knows: they count until the end of the forecast.
    pub running_nodes_without_end: usize,
    /// Jobs that wait and are in the forecast.
    pub queued_jobs: usize,
    /// Jobs that wait and are not in it, because nobody knows what they will cost.
    pub unknown_jobs: Vec<String>,
    /// The organisation as a whole, then each limit that is set.
    pub scopes: Vec<ScopeForecastBody>,
}

/// What one scope is expected to spend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopeForecastBody {
    /// `organisation` or `project/NAME`.
    pub scope: String,
    /// Which of its limits is looked at, `in total` or `a month`; nothing for the organisation as a whole.
    pub limit: Option<String>,
    /// Until when.
    pub until_ms: Millis,
    /// One in ten is less.
    pub spend_p10_micro_usd: MicroUsd,
    /// As likely more as less.
    pub spend_p50_micro_usd: MicroUsd,
    /// One in ten is more.
    pub spend_p90_micro_usd: MicroUsd,
    /// What is left of the limit now.
    pub left_micro_usd: Option<MicroUsd>,
    /// The chance that more will be spent, 0 to 1.
    pub overspend_chance: Option<f64>,
    /// One in ten: reached by then. Nothing where that is not in sight.
    pub exhausted_p10_ms: Option<Millis>,
    /// As likely earlier as later.
    pub exhausted_p50_ms: Option<Millis>,
    /// Nine in ten: reached by then.
    pub exhausted_p90_ms: Option<Millis>,
}

/// A part of the bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillPartBody {
    /// The beginning of its hour or day (UTC), where time is cut.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub begins_ms: Option<Millis>,
    /// The project, job, actor, node or category; nothing for what belongs to none.
    pub key: Option<String>,
    /// The job's name, where the key is one or belongs to one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// How much.
    pub amount_micro_usd: MicroUsd,
    /// For how much node time.
    pub time_ms: Millis,
}

/// The bill of a stretch of time, in parts that sum to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillPartsBody {
    /// The sum.
    pub total_micro_usd: MicroUsd,
    /// The parts, in the order of time and key.
    pub parts: Vec<BillPartBody>,
}

/// Something that could be rented now, and how it fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferBody {
    /// `provider/type/market`.
    pub name: String,
    /// Processor time of a node.
    pub cpu_millis: CpuMillis,
    /// Memory of a node.
    pub memory_mib: MemoryMib,
    /// The model of its accelerators, where it has some.
    pub gpu: Option<String>,
    /// How many.
    pub gpu_count: u32,
    /// How it is rented.
    pub market: String,
    /// What an hour costs.
    pub price_micro_usd_per_hour: MicroUsdPerHour,
    /// From the request to a ready node.
    pub boot_ms: Millis,
    /// How many more can be had.
    pub available: u32,
    /// How often its nodes were taken back so far.
    pub interruptions: u64,
    /// For how much node time that was observed.
    pub observed_ms: Millis,
    /// Its last launches failed; it is not tried before this.
    pub hold_until_ms: Option<Millis>,
}

impl OfferBody {
    /// How often a node is taken back in 1,000 hours, as observed; nothing where nothing was observed.
    pub fn interruptions_per_1000_h(&self) -> Option<f64> {
        let hours = self.observed_ms.as_secs_f64() / 3_600.0;
        (hours > 0.0).then(|| self.interruptions as f64 * 1_000.0 / hours)
    }
}
