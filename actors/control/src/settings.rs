//! What a control plane is started with, and its configuration file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use neap_scheduler::model::{CpuMillis, Market, MemoryMib, MicroUsd, MicroUsdPerHour, Millis, NodeSize};
use neap_scheduler::policy::{Fifo, Policy};
use neap_scheduler::spec::EntryInfo;
use serde::Deserialize;

/// What a control plane is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its folder.
    pub home: PathBuf,
    /// Where it listens for agents; port 0 takes the port of the last start, or any.
    pub quic_bind: SocketAddr,
    /// The binary that `neap agent` is.
    pub agent_binary: PathBuf,
    /// The train entries job files may name.
    pub entries: Vec<EntryInfo>,
    /// The rest.
    pub config: Config,
}

/// The configuration file: YAML, every key optional.
///
/// ```yaml
/// idle_release_ms: 15000
/// policy: fair_share
/// shares: {vision: 2, speech: 1}
/// local:
///   offers:
///     - {name: small, cpus: 1, memory_mib: 2048, on_demand: "0.040", spot: "0.012", boot_ms: 200, max_nodes: 8}
///   preemption: {mean_ms: 600000, notice_ms: 5000, seed: 7}
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The scheduling policy: `fifo`, `backfill`, `fair_share`, `priority`, `goodput` or `turnaround`.
    pub policy: String,
    /// The part of the cluster that projects are entitled to, in proportion to each other; one that is not named has 1.
    pub shares: BTreeMap<String, u32>,
    /// How long an idle node is kept.
    pub idle_release_ms: u64,
    /// How long a node's lease runs without being renewed.
    pub lease_ms: u64,
    /// After how long without contact an agent gives up.
    pub dead_man_ms: u64,
    /// The local provider.
    pub local: LocalConfig,
}

/// Idle nodes of this machine cost nothing real, but they bill: keep them just long enough for the next job of a person
/// who is trying things out.
const IDLE_RELEASE_MS: u64 = 15_000;

/// Three renewals of 5 s: see `docs/adr/0007-failure-detection.md`.
const LEASE_MS: u64 = 15_000;

/// Ten minutes: long enough to restart a control plane by hand, short enough for the bill.
const DEAD_MAN_MS: u64 = 600_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Fifo.name().to_owned(),
            shares: BTreeMap::new(),
            idle_release_ms: IDLE_RELEASE_MS,
            lease_ms: LEASE_MS,
            dead_man_ms: DEAD_MAN_MS,
            local: LocalConfig::default(),
        }
    }
}

/// The local provider: nodes are processes of this machine, with declared sizes and prices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// What it rents out.
    pub offers: Vec<LocalOffer>,
    /// Whether spot nodes are taken back at random.
    pub preemption: Option<PreemptionConfig>,
    /// A spot market that comes and goes as written down; absent: spot is limited by `max_nodes` alone.
    pub spot_market: Option<SpotMarketConfig>,
}

impl Default for LocalConfig {
    /// Two sizes at prices of the order of small cloud machines; the prices are declared, nobody is charged.
    fn default() -> Self {
        let offer = |name: &str, cpus, memory_mib, on_demand: &str, spot: &str| LocalOffer {
            name: name.to_owned(),
            cpus,
            memory_mib,
            on_demand: Some(on_demand.to_owned()),
            spot: Some(spot.to_owned()),
            boot_ms: 200,
            max_nodes: 8,
        };
        Self {
            offers: vec![offer("small", 1, 2_048, "0.040", "0.012"), offer("medium", 2, 4_096, "0.080", "0.024")],
            preemption: None,
            spot_market: None,
        }
    }
}

/// One node type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalOffer {
    /// Its name; offers are called `local/<name>/<market>`.
    pub name: String,
    /// Whole processor cores.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// Dollars per hour on demand, as text so that it is read exactly; absent: not offered.
    pub on_demand: Option<String>,
    /// Dollars per hour on the spot market; absent: not offered.
    pub spot: Option<String>,
    /// How long it takes to start.
    #[serde(default)]
    pub boot_ms: u64,
    /// How many there can be at once, over both markets.
    pub max_nodes: u32,
}

impl LocalOffer {
    /// What a node of it has.
    pub fn size(&self) -> NodeSize {
        NodeSize { cpus: CpuMillis::from_cores(self.cpus), memory: MemoryMib(self.memory_mib) }
    }

    /// What an hour costs on a market, where it is offered there.
    pub fn price(&self, market: Market) -> Option<MicroUsdPerHour> {
        let text = match market {
            Market::OnDemand => self.on_demand.as_deref(),
            Market::Spot => self.spot.as_deref(),
        };
        text.and_then(|text| parse_price(text).ok())
    }

    /// How long it takes to start.
    pub fn boot(&self) -> Millis {
        Millis::new(self.boot_ms)
    }
}

/// Preemption of spot nodes at random times: exponential, from a seed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreemptionConfig {
    /// Mean life of a spot node.
    pub mean_ms: u64,
    /// How long before it is taken the notice comes.
    pub notice_ms: u64,
    /// Seed of the times.
    #[serde(default)]
    pub seed: u64,
}

/// How many spot nodes there are, tick by tick, to rehearse a job on a market that was recorded or made up. When there are
/// fewer than are rented, the newest are taken back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpotMarketConfig {
    /// The length of a tick.
    pub tick_ms: u64,
    /// Spot nodes there are in each tick, counted from the start of the control plane; the last number holds on.
    pub nodes: Vec<u32>,
    /// How long before a node is taken the notice comes.
    #[serde(default)]
    pub notice_ms: u64,
}

impl SpotMarketConfig {
    /// How many spot nodes there are `since` the start.
    pub fn nodes_at(&self, since: Millis) -> u32 {
        let tick = usize::try_from(since.get() / self.tick_ms.max(1)).unwrap_or(usize::MAX);
        self.nodes.get(tick).or(self.nodes.last()).copied().unwrap_or(u32::MAX)
    }
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the YAML it should be.
    #[error("the configuration does not parse: {0}")]
    Syntax(String),
    /// A value that makes no sense.
    #[error("{path}: {why}")]
    Value {
        /// Where.
        path: String,
        /// What is wrong, and what is right.
        why: String,
    },
}

impl Config {
    /// Reads and checks a configuration file's text; an empty text is the default.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the first fault.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_saphyr::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The scheduling policy.
    pub(crate) fn policy(&self) -> Box<dyn Policy> {
        <dyn Policy>::by_name(&self.policy).unwrap_or_else(|_| Box::new(Fifo))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fault = |path: &str, why: &str| Err(ConfigError::Value { path: path.to_owned(), why: why.to_owned() });
        if let Err(error) = <dyn Policy>::by_name(&self.policy) {
            return fault("policy", &error.to_string());
        }
        if self.lease_ms < 3_000 {
            return fault("lease_ms", "a lease is at least 3000, the time in which silence is noticed");
        }
        if self.dead_man_ms < self.lease_ms {
            return fault("dead_man_ms", "an agent gives up no sooner than its lease ends");
        }
        if self.local.preemption.as_ref().is_some_and(|preemption| preemption.mean_ms == 0) {
            return fault("local.preemption.mean_ms", "a mean life of 0 leaves no node; use at least 1000");
        }
        if self.local.spot_market.as_ref().is_some_and(|market| market.tick_ms < 100 || market.nodes.is_empty()) {
            return fault("local.spot_market", "give a `tick_ms` of at least 100 and the `nodes` of at least one tick");
        }
        for (number, offer) in self.local.offers.iter().enumerate() {
            let path = format!("local.offers[{number}]");
            if offer.cpus == 0 || offer.memory_mib == 0 {
                return fault(&path, "a node has at least 1 cpu and 1 MiB");
            }
            for price in [&offer.on_demand, &offer.spot].into_iter().flatten() {
                parse_price(price).map_err(|why| ConfigError::Value { path: path.clone(), why })?;
            }
        }
        Ok(())
    }
}

/// Dollars per hour.
pub(crate) fn parse_price(text: &str) -> Result<MicroUsdPerHour, String> {
    let dollars: MicroUsd = text.parse().map_err(|error| format!("{error}"))?;
    Ok(MicroUsdPerHour::new(dollars.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_and_the_default_is_valid() {
        assert_eq!(Config::parse(" \n").unwrap(), Config::default());
        Config::default().check().unwrap();
    }

    #[test]
    fn the_documented_example_parses() {
        let text = "idle_release_ms: 15000\npolicy: fair_share\nshares: {vision: 2, speech: 1}\nlocal:\n  offers:\n    - {name: small, cpus: 1, memory_mib: 2048, \
                    on_demand: \"0.040\", spot: \"0.012\", boot_ms: 200, max_nodes: 8}\n  \
                    preemption: {mean_ms: 600000, notice_ms: 5000, seed: 7}\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.local.offers[0].size().cpus, CpuMillis::from_cores(1));
        assert_eq!(config.shares.get("vision"), Some(&2));
        assert_eq!(config.local.preemption.unwrap().seed, 7);
    }

    #[test]
    fn a_spot_market_holds_its_last_number() {
        let market = SpotMarketConfig { tick_ms: 1_000, nodes: vec![2, 0, 3], notice_ms: 0 };
        let there = [0, 999, 1_000, 2_500, 90_000].map(|since| market.nodes_at(Millis::new(since)));
        assert_eq!(there, [2, 2, 0, 3, 3]);
    }

    #[test]
    fn lies_are_refused() {
        for text in [
            "lease_ms: 10",
            "nonsense: 1",
            "policy: lottery",
            "local: {offers: [{name: a, cpus: 0, memory_mib: 1, max_nodes: 1}]}",
            "local: {spot_market: {tick_ms: 1, nodes: [1]}}",
            "local: {spot_market: {tick_ms: 1000, nodes: []}}",
            "local: {offers: [{name: a, cpus: 1, memory_mib: 1, spot: \"-1\", max_nodes: 1}]}",
        ] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
    }
}
