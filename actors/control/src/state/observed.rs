//! What was seen of the nodes of each offer: how long they take to come, and how often they are taken back.

use std::collections::{BTreeMap, VecDeque};

use neap_scheduler::model::{Market, Millis, NodeState};

use super::NodeEntry;

/// The mean is over this many launches: a provider's boot times change with its load.
const BOOTS_KEPT: usize = 8;

/// Node time that an offer is taken to have run without an interruption before it was seen at all: without it, one early
/// interruption would say that a market takes nodes back every few minutes.
const BENEFIT_OF_DOUBT: Millis = Millis::from_secs(10 * 3_600);

/// What was seen of one offer.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfferSeen {
    boots: VecDeque<Millis>,
    /// Times that a node was taken back.
    pub(crate) interruptions: u32,
    /// Billed time of nodes that have ended.
    ended: Millis,
}

impl OfferSeen {
    /// How long a node took from request to ready, on average of the last few.
    pub(crate) fn boot(&self) -> Option<Millis> {
        let total: u64 = self.boots.iter().map(|boot| boot.get()).sum();
        total.checked_div(self.boots.len() as u64).map(Millis::new)
    }

    /// How often its nodes are taken back, in 1,000 hours of one node, with `live` of time on nodes that still run.
    pub(crate) fn interruptions_per_1000_h(&self, live: Millis) -> u32 {
        const MILLIS_PER_1000_H: u128 = 1_000 * 3_600_000;
        let watched = u128::from((self.ended + live + BENEFIT_OF_DOUBT).get());
        u32::try_from(u128::from(self.interruptions) * MILLIS_PER_1000_H / watched).unwrap_or(u32::MAX)
    }

    /// Billed time of its nodes, with `live` of time on those that still run.
    pub(crate) fn node_time(&self, live: Millis) -> Millis {
        self.ended + live
    }
}

/// What was seen, by the name of the offer.
#[derive(Debug, Default)]
pub(crate) struct Observed(BTreeMap<String, OfferSeen>);

impl Observed {
    /// What was seen of an offer.
    pub(crate) fn of(&self, offer: &str) -> Option<&OfferSeen> {
        self.0.get(offer)
    }

    /// A node is about to enter `to`.
    pub(super) fn node_enters(&mut self, node: &NodeEntry, to: NodeState, at: Millis) {
        let seen = self.0.entry(node.offer.clone()).or_default();
        if to == NodeState::Ready && matches!(node.state, NodeState::Booting | NodeState::Joining) {
            if seen.boots.len() == BOOTS_KEPT {
                seen.boots.pop_front();
            }
            seen.boots.push_back(at.since(node.requested));
        }
        if to.is_terminal() && !node.state.is_terminal() {
            seen.ended = seen.ended + node.time(at);
            let given_back = node.state == NodeState::Releasing || node.notice_until.is_some();
            let ran = !matches!(node.state, NodeState::Requested | NodeState::Booting | NodeState::Joining);
            seen.interruptions += u32::from(node.market == Market::Spot && ran && !given_back);
        }
    }

    /// A node is taken back with notice.
    pub(super) fn noticed(&mut self, node: &NodeEntry) {
        if node.notice_until.is_none() {
            self.0.entry(node.offer.clone()).or_default().interruptions += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::model::{CpuMillis, JobId, MemoryMib, MicroUsdPerHour, NodeId, NodeSize};

    use super::super::NodeStart;
    use super::*;

    const HOUR: Millis = Millis::from_secs(3_600);

    fn node(requested: Millis) -> NodeEntry {
        NodeEntry::new(NodeStart {
            id: NodeId::new(1),
            offer: "local/small/spot".to_owned(),
            size: NodeSize { cpus: CpuMillis::from_cores(1), memory: MemoryMib(1_024) },
            market: Market::Spot,
            price: MicroUsdPerHour::new(12_000),
            rented_for: Some(JobId::new(1)),
            requested,
        })
    }

    fn enter(observed: &mut Observed, node: &mut NodeEntry, to: NodeState, at: Millis) {
        observed.node_enters(node, to, at);
        node.enter(to, at, "as the test says");
    }

    fn booted(observed: &mut Observed) -> NodeEntry {
        let mut node = node(Millis::ZERO);
        for (to, at) in [(NodeState::Booting, 100), (NodeState::Joining, 500), (NodeState::Ready, 700)] {
            enter(observed, &mut node, to, Millis::new(at));
        }
        node
    }

    #[test]
    fn a_boot_is_from_request_to_ready_and_a_node_that_answers_again_did_not_boot() {
        let mut observed = Observed::default();
        let mut node = booted(&mut observed);
        enter(&mut observed, &mut node, NodeState::Unreachable, Millis::new(5_000));
        enter(&mut observed, &mut node, NodeState::Ready, Millis::new(9_000));
        assert_eq!(observed.of("local/small/spot").unwrap().boot(), Some(Millis::new(700)));
        assert!(observed.of("local/small/on_demand").is_none());
    }

    #[test]
    fn a_node_counts_as_taken_back_once_whether_or_not_it_was_announced() {
        let mut observed = Observed::default();
        let mut given_back = booted(&mut observed);
        enter(&mut observed, &mut given_back, NodeState::Releasing, HOUR);
        enter(&mut observed, &mut given_back, NodeState::Released, HOUR);
        assert_eq!(observed.of("local/small/spot").unwrap().interruptions, 0);
        let mut announced = booted(&mut observed);
        observed.noticed(&announced);
        announced.notice(HOUR, HOUR);
        observed.noticed(&announced);
        enter(&mut observed, &mut announced, NodeState::Released, HOUR);
        let mut lost = booted(&mut observed);
        enter(&mut observed, &mut lost, NodeState::Released, HOUR);
        let seen = observed.of("local/small/spot").unwrap();
        assert_eq!(seen.interruptions, 2);
        // Two in just under three hours, and ten hours of doubt.
        assert_eq!(seen.interruptions_per_1000_h(Millis::ZERO), 153);
    }
}
