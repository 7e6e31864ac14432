//! Views about money as bodies.

use neap_control::views::{BillPart, ForecastView, OfferView, ScopeBudgetView, ScopeForecast};
use neap_scheduler::model::MicroUsd;
use neap_scheduler::pricing::forecast::Basis;

use crate::http::body::{BillPartBody, ForecastBody, OfferBody, ScopeBudgetBody, ScopeForecastBody};

impl From<ScopeBudgetView> for ScopeBudgetBody {
    fn from(view: ScopeBudgetView) -> Self {
        let limit = view.limit;
        let left = |limit: MicroUsd, spent: MicroUsd| limit - spent - view.reserved;
        let total = limit.total.map(|limit| left(limit, view.spent));
        let of_month = limit.per_month.map(|limit| left(limit, view.spent_in_month));
        Self {
            scope: view.scope.id(),
            name: view.job_name,
            max_cost_micro_usd: limit.total,
            max_cost_micro_usd_per_month: limit.per_month,
            max_cost_micro_usd_per_hour: limit.per_hour,
            warn_at: f64::from(limit.warn_at_permille) / 1_000.0,
            set_ms: view.set_at,
            month: view.month.to_string(),
            spent_micro_usd: view.spent,
            spent_this_month_micro_usd: view.spent_in_month,
            reserved_micro_usd: view.reserved,
            left_micro_usd: total.into_iter().chain(of_month).min(),
            rate_micro_usd_per_hour: view.rate,
            warned: view.warned.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<ForecastView> for ForecastBody {
    fn from(view: ForecastView) -> Self {
        let history_days = match view.basis {
            Basis::History { days } => Some(days),
            Basis::KnownOnly => None,
        };
        Self {
            from_ms: view.from,
            until_ms: view.until,
            history_days,
            history_ms: view.history,
            running_nodes: view.running.0,
            running_nodes_without_end: view.running.1,
            queued_jobs: view.queued,
            unknown_jobs: view.unknown.iter().map(ToString::to_string).collect(),
            scopes: view.scopes.into_iter().map(ScopeForecastBody::from).collect(),
        }
    }
}

impl From<ScopeForecast> for ScopeForecastBody {
    fn from(view: ScopeForecast) -> Self {
        let exhausted = view.exhausted;
        Self {
            scope: view.scope.id(),
            limit: view.kind.map(|kind| kind.to_string()),
            until_ms: view.until,
            spend_p10_micro_usd: view.spend.p10,
            spend_p50_micro_usd: view.spend.p50,
            spend_p90_micro_usd: view.spend.p90,
            left_micro_usd: view.left,
            overspend_chance: view.overspend_chance,
            exhausted_p10_ms: exhausted.and_then(|range| range.p10),
            exhausted_p50_ms: exhausted.and_then(|range| range.p50),
            exhausted_p90_ms: exhausted.and_then(|range| range.p90),
        }
    }
}

impl From<BillPart> for BillPartBody {
    fn from(BillPart { begins, key, name, part }: BillPart) -> Self {
        Self { begins_ms: begins, key, name, amount_micro_usd: part.amount, time_ms: part.time }
    }
}

impl From<OfferView> for OfferBody {
    fn from(OfferView { offer, interruptions, observed }: OfferView) -> Self {
        Self {
            name: offer.name,
            cpu_millis: offer.size.cpus,
            memory_mib: offer.size.memory,
            gpu: offer.terms.gpus.model,
            gpu_count: offer.terms.gpus.count.0,
            market: offer.market.to_string(),
            price_micro_usd_per_hour: offer.price,
            boot_ms: offer.boot,
            available: offer.available,
            interruptions,
            observed_ms: observed,
            hold_until_ms: offer.terms.hold_until,
        }
    }
}
