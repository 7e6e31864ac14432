//! What a node is: its size, its market, and the offers that providers make.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::units::{CpuMillis, MemoryMib, MicroUsdPerHour, Millis};

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
    /// How many more of it can be had now.
    pub available: u32,
}
