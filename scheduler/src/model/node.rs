//! What a node is: its size, its market, and the offers that providers make.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::units::{CpuMillis, GpuCount, MemoryMib, MicroUsdPerHour, Millis};

/// How a node is rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Market {
    /// Kept until released.
    OnDemand,
    /// Cheaper; the provider may take it back after a short notice.
    Spot,
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OnDemand => "on_demand",
            Self::Spot => "spot",
        })
    }
}

/// Which market a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MarketChoice {
    /// On-demand nodes only.
    #[default]
    OnDemand,
    /// Spot nodes only; without them the job waits.
    Spot,
    /// Either, whichever costs less per hour of progress; with a deadline, as its policy finds best.
    Auto,
}

impl MarketChoice {
    /// Whether nodes of this market will do.
    pub fn allows(self, market: Market) -> bool {
        match self {
            Self::OnDemand => market == Market::OnDemand,
            Self::Spot => market == Market::Spot,
            Self::Auto => true,
        }
    }

    /// The market it names; the one that is always to be had where it leaves the choice.
    pub fn named(self) -> Market {
        match self {
            Self::Spot => Market::Spot,
            Self::OnDemand | Self::Auto => Market::OnDemand,
        }
    }
}

impl fmt::Display for MarketChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OnDemand => "on_demand",
            Self::Spot => "spot",
            Self::Auto => "auto",
        })
    }
}

/// What a node has, or what one worker of a job needs on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeSize {
    /// Processor time.
    pub cpus: CpuMillis,
    /// Main memory.
    pub memory: MemoryMib,
}

impl NodeSize {
    /// Whether something of size `need` fits into this.
    pub fn fits(self, need: Self) -> bool {
        need.cpus <= self.cpus && need.memory <= self.memory
    }

    /// What is left when `used` is taken away, never below nothing.
    #[must_use]
    pub fn minus(self, used: Self) -> Self {
        Self {
            cpus: CpuMillis(self.cpus.0.saturating_sub(used.cpus.0)),
            memory: MemoryMib(self.memory.0.saturating_sub(used.memory.0)),
        }
    }
}

/// The accelerators of a node.
///
/// They stand beside [`NodeSize`] and not in it, because `NodeSize` is part of stored records and wire messages whose
/// layout must not change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gpus {
    /// How many.
    pub count: GpuCount,
    /// Which ones, where that is known.
    pub model: Option<String>,
}

/// The accelerators that one worker needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuNeed {
    /// How many.
    pub count: GpuCount,
    /// Any of these models; any at all if none is named.
    pub models: Vec<String>,
}

impl Gpus {
    /// Whether `need` fits into all of these.
    pub fn fits(&self, need: &GpuNeed) -> bool {
        need.count <= self.count && need.accepts(self.model.as_deref())
    }
}

impl GpuNeed {
    /// Whether these would do, however many there are.
    pub fn accepts(&self, model: Option<&str>) -> bool {
        let named = || model.is_some_and(|model| self.models.iter().any(|one| one == model));
        self.count == GpuCount(0) || self.models.is_empty() || named()
    }
}

/// What is known about an offer beyond its price. The default is "nothing".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfferTerms {
    /// The accelerators of its nodes.
    pub gpus: Gpus,
    /// The shortest time that is billed.
    pub billing_min: Millis,
    /// How often its nodes are taken back, as observed: in 1,000 hours of one node.
    pub interruptions_per_1000_h: u32,
    /// Its last launches failed; not tried again before this.
    pub hold_until: Option<Millis>,
}

/// Something a provider would rent out now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// `provider/type/market`, unique in a snapshot, for example `local/small/spot`.
    pub name: String,
    /// What the node has.
    pub size: NodeSize,
    /// How it is rented.
    pub market: Market,
    /// What an hour costs.
    pub price: MicroUsdPerHour,
    /// How long a node usually takes from request to ready.
    pub boot: Millis,
    /// How many more of it can be had now: what the provider has, within the quota that is left.
    pub available: u32,
    /// What else is known about it.
    pub terms: OfferTerms,
}
