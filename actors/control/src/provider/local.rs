//! Nodes that are `neap agent` processes of this machine, with declared sizes, prices and boot times. Spot nodes are
//! taken back like those of a cloud: a notice, then the process is killed without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neap_runtime::wire::artifact::NODE_ARTIFACTS;
use neap_runtime::workload::AGENT_ARGUMENT;
use neap_scheduler::model::{Market, Millis, NodeId, Offer, OfferTerms};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::process::NodeProcess;
use super::{NodeProvider, ProviderEvent, StartNode};
use crate::clock;
use crate::home::Home;
use crate::settings::{LocalConfig, LocalOffer, PreemptionConfig, SpotMarketConfig, parse_price};

/// How long an agent may take to end its workers after SIGTERM, before it is killed.
const END_GRACE: Duration = Duration::from_secs(5);

/// How often a process that is not our child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where a node's process is.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// Booting; no process yet.
    Booting,
    /// Running.
    Up(NodeProcess),
    /// Ended before it had a process.
    Ended,
}

/// Starts, watches, takes back and ends local nodes.
#[derive(Clone)]
pub(crate) struct LocalProvider {
    home: Home,
    binary: PathBuf,
    config: LocalConfig,
    lives: Arc<Mutex<BTreeMap<NodeId, Life>>>,
    /// Spot nodes that it started and that are not gone.
    spot: Arc<Mutex<BTreeSet<NodeId>>>,
    started: Millis,
    events: mpsc::UnboundedSender<ProviderEvent>,
}

impl LocalProvider {
    /// A provider that starts `binary`. Events go to `events`: a handful a node, so their number is bounded by the
    /// number of nodes.
    pub(crate) fn new(
        home: Home,
        binary: PathBuf,
        config: LocalConfig,
        events: mpsc::UnboundedSender<ProviderEvent>,
    ) -> Self {
        let provider =
            Self { home, binary, config, lives: Arc::default(), spot: Arc::default(), started: clock::now(), events };
        if let Some(market) = provider.config.spot_market.clone() {
            tokio::spawn(provider.clone().follow_market(market));
        }
        provider
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<NodeId, Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spot(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.spot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: ProviderEvent) {
        if self.events.send(event).is_err() {
            tracing::debug!("provider event after the end of the control plane");
        }
    }

    async fn run(self, request: StartNode) {
        let node = request.node;
        let boot = self.offer_of(&request.offer).map(LocalOffer::boot).unwrap_or_default();
        self.tell(ProviderEvent::Started(node));
        if request.market == Market::Spot {
            self.spot().insert(node);
        }
        tokio::time::sleep(boot.into()).await;
        if matches!(self.lives().get(&node), Some(Life::Ended)) {
            self.spot().remove(&node);
            self.tell(ProviderEvent::Gone(node, "ended while booting".to_owned()));
            return;
        }
        let child = match self.spawn(&request) {
            Ok(child) => child,
            Err(error) => {
                let binary = self.binary.display();
                self.spot().remove(&node);
                self.tell(ProviderEvent::StartFailed(node, format!("failed to start {binary} agent: {error}")));
                return;
            }
        };
        if let Some(process) = child.id().and_then(NodeProcess::of) {
            self.lives().insert(node, Life::Up(process));
            if let Err(error) = process.note_in(&self.home.node(node)) {
                tracing::warn!(%error, %node, "process not noted; a later control plane cannot adopt it");
            }
        }
        if request.market == Market::Spot
            && let Some(preemption) = &self.config.preemption
        {
            tokio::spawn(self.clone().preempt_at_random(node, preemption.clone()));
        }
        self.wait(node, child).await;
    }

    fn spawn(&self, request: &StartNode) -> io::Result<Child> {
        let folder = self.home.node(request.node);
        fs::create_dir_all(&folder)?;
        let log = File::options().create(true).append(true).open(folder.join("log"))?;
        Command::new(&self.binary)
            .arg(AGENT_ARGUMENT)
            .args(["--node", &request.node.to_string()])
            .args(["--control", &request.control.to_string()])
            .args(["--join", &request.join.to_string()])
            .args(["--cpu-millis", &request.size.cpus.0.to_string()])
            .args(["--memory-mib", &request.size.memory.0.to_string()])
            .arg("--folder")
            .arg(&folder)
            .env("NEAP_JOIN_TOKEN", request.token.reveal())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
    }

    async fn wait(&self, node: NodeId, mut child: Child) {
        let how = match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("not seen any more: {error}"),
        };
        self.lives().remove(&node);
        self.spot().remove(&node);
        self.wipe(node).await;
        self.tell(ProviderEvent::Gone(node, how));
    }

    /// Takes back what the written-down market has no more room for, tick by tick.
    async fn follow_market(self, market: SpotMarketConfig) {
        for _ in 0..market.nodes.len() {
            let nodes = market.nodes_at(clock::now().since(self.started)) as usize;
            let too_many: Vec<NodeId> = self.spot().iter().skip(nodes).copied().collect();
            for node in too_many.into_iter().filter(|node| self.process(*node).is_some()) {
                self.spot().remove(&node);
                self.preempt(node, Millis::new(market.notice_ms));
            }
            tokio::time::sleep(Duration::from_millis(market.tick_ms)).await;
        }
    }

    async fn preempt_at_random(self, node: NodeId, preemption: PreemptionConfig) {
        let mut rng = ChaCha8Rng::seed_from_u64(preemption.seed);
        rng.set_stream(node.number());
        let life = -rng.random_range(f64::EPSILON..1.0).ln() * preemption.mean_ms as f64;
        tokio::time::sleep(Duration::from_millis(life as u64)).await;
        self.preempt(node, Millis::new(preemption.notice_ms));
    }

    /// Looks at a process that an earlier control plane started, until it is gone.
    async fn watch_adopted(self, node: NodeId, process: NodeProcess) {
        while process.runs() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.lives().remove(&node);
        self.wipe(node).await;
        self.tell(ProviderEvent::Gone(node, "process not there any more".to_owned()));
    }

    /// A machine goes with its disk; of what this one had only its log is left.
    async fn wipe(&self, node: NodeId) {
        let artifacts = self.home.node(node).join(NODE_ARTIFACTS);
        match tokio::fs::remove_dir_all(&artifacts).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, %node, "artifacts of a node that is gone not removed");
            }
            _ => {}
        }
    }

    fn process(&self, node: NodeId) -> Option<NodeProcess> {
        match self.lives().get(&node) {
            Some(Life::Up(process)) => Some(*process),
            _ => None,
        }
    }

    fn offer_of(&self, name: &str) -> Option<&LocalOffer> {
        let kind = name.split('/').nth(1)?;
        self.config.offers.iter().find(|offer| offer.name == kind)
    }
}

impl NodeProvider for LocalProvider {
    fn offers(&self, live: &[&str]) -> Vec<Offer> {
        let mut offers = Vec::new();
        let spot_used = live.iter().filter(|name| name.ends_with("/spot")).count();
        let spot_left = self.config.spot_market.as_ref().map_or(u32::MAX, |market| {
            let there = market.nodes_at(clock::now().since(self.started));
            there.saturating_sub(u32::try_from(spot_used).unwrap_or(u32::MAX))
        });
        for kind in &self.config.offers {
            let prefix = format!("local/{}/", kind.name);
            let used = live.iter().filter(|name| name.starts_with(&prefix)).count();
            let available = kind.max_nodes.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
            for (market, price) in [(Market::OnDemand, &kind.on_demand), (Market::Spot, &kind.spot)] {
                let Some(price) = price.as_deref().and_then(|text| parse_price(text).ok()) else { continue };
                let name = format!("{prefix}{market}");
                offers.push(Offer {
                    name,
                    size: kind.size(),
                    market,
                    price,
                    boot: kind.boot(),
                    available: if market == Market::Spot { available.min(spot_left) } else { available },
                    terms: OfferTerms::default(),
                });
            }
        }
        offers
    }

    fn start(&self, request: StartNode) {
        let known = self.lives().insert(request.node, Life::Booting);
        debug_assert!(known.is_none(), "a node is started once");
        tokio::spawn(self.clone().run(request));
    }

    fn end(&self, node: NodeId) {
        let Some(process) = self.process(node) else {
            if let Some(life) = self.lives().get_mut(&node) {
                *life = Life::Ended;
            }
            return;
        };
        tokio::spawn(async move {
            process.signal(Signal::TERM);
            tokio::time::sleep(END_GRACE).await;
            process.signal(Signal::KILL);
        });
    }

    fn preempt(&self, node: NodeId, notice: Millis) {
        let Some(process) = self.process(node) else { return };
        self.tell(ProviderEvent::Notice { node, deadline: clock::now() + notice });
        tokio::spawn(async move {
            tokio::time::sleep(notice.into()).await;
            process.signal(Signal::KILL);
        });
    }

    fn adopt(&self, nodes: &[NodeId]) {
        for &node in nodes {
            match NodeProcess::noted_in(&self.home.node(node)).filter(|process| process.runs()) {
                Some(process) => {
                    self.lives().insert(node, Life::Up(process));
                    tokio::spawn(self.clone().watch_adopted(node, process));
                }
                None => self.tell(ProviderEvent::Gone(node, "ended while the control plane was away".to_owned())),
            }
        }
    }
}
