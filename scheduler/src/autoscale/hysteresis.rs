//! How long an idle node is kept.
//!
//! Keeping it costs its price; giving it back and renting another costs the price of a boot and of the shortest time that is billed.
//! When the next work comes is not known, so it is a ski rental: keep until keeping has cost as much as renting again
//! would. That never costs more than twice the best choice in hindsight, and no deterministic rule does better (Karlin,
//! Manasse, Rudolph and Sleator, *Competitive snoopy caching*, Algorithmica 3, 1988). The cluster's `idle_release` stays an
//! upper limit, and is the rule where boot and billing are not known.

use crate::model::Millis;
use crate::policy::{KeepReason, NodeSupply, ReleaseReason};

/// What becomes of an idle node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idle {
    /// It is kept.
    Keep(KeepReason),
    /// It is given back.
    Release(ReleaseReason),
}

/// What becomes of a ready node that no job uses.
pub fn idle(node: &NodeSupply, now: Millis, idle_release: Millis) -> Idle {
    if !node.answers {
        return Idle::Keep(KeepReason::Silent);
    }
    let since = node.idle_since.unwrap_or(now);
    let again = node.terms.again.map(|again| again.boot + again.billing_min);
    let limit = again.map_or(idle_release, |again| again.min(idle_release));
    let idle = now.since(since);
    if idle >= limit && node.idle_since.is_some() {
        return Idle::Release(ReleaseReason::Idle { idle, cost: node.price.cost_of(idle) });
    }
    Idle::Keep(match again {
        Some(again) if again < idle_release => {
            KeepReason::BreakEven { until: since + again, again: node.price.cost_of(again) }
        }
        _ => KeepReason::IdleUntil(since + idle_release),
    })
}
