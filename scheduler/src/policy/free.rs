//! What is left on nodes that take work, found by size: a worker goes to the fullest node that fits, so that whole nodes
//! stay free, and accelerators are left to those who need them.
//!
//! Nodes lie on shelves by what cannot be traded (market and accelerator model) and on a shelf in the order of what is
//! left. Finding a home is a range query on each shelf, not a walk over the cluster: the number of nodes enters as its
//! logarithm.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::{JobDemand, NodeSupply};
use crate::model::{CpuMillis, GpuCount, Market, MemoryMib, NodeId, NodeSize};

/// What is left of a node.
#[derive(Debug, Clone)]
struct Room {
    size: NodeSize,
    gpus: GpuCount,
    shelf: usize,
}

/// The order on a shelf: the least left first, then the older node.
type Place = (CpuMillis, MemoryMib, NodeId);

#[derive(Debug, Clone)]
struct Shelf {
    market: Market,
    model: Option<String>,
    by_gpus: BTreeMap<GpuCount, BTreeSet<Place>>,
}

/// What is left on nodes that take work.
#[derive(Debug, Clone, Default)]
pub(super) struct FreeNodes {
    rooms: BTreeMap<NodeId, Room>,
    shelves: Vec<Shelf>,
}

impl FreeNodes {
    /// All of a node.
    pub(super) fn insert(&mut self, node: &NodeSupply) {
        let gpus = &node.terms.gpus;
        let found = self.shelves.iter().position(|shelf| shelf.market == node.market && shelf.model == gpus.model);
        let shelf = found.unwrap_or_else(|| {
            let shelf = Shelf { market: node.market, model: gpus.model.clone(), by_gpus: BTreeMap::new() };
            self.shelves.push(shelf);
            self.shelves.len() - 1
        });
        self.put(node.id, Room { size: node.size, gpus: gpus.count, shelf });
    }

    /// Takes what one worker of the job needs from a node.
    pub(super) fn take(&mut self, node: NodeId, job: &JobDemand) {
        if let Some(mut room) = self.remove_room(node) {
            room.size = room.size.minus(job.need);
            room.gpus = GpuCount(room.gpus.0.saturating_sub(job.terms.gpus.count.0));
            self.put(node, room);
        }
    }

    /// Gives the rest of a node to nobody.
    pub(super) fn remove(&mut self, node: NodeId) {
        self.remove_room(node);
    }

    /// Moves what is left of a node to `other`.
    pub(super) fn hand_over(&mut self, node: NodeId, other: &mut Self) {
        let Some(mut room) = self.remove_room(node) else { return };
        let Shelf { market, model, .. } = &self.shelves[room.shelf];
        let found = other.shelves.iter().position(|shelf| shelf.market == *market && shelf.model == *model);
        room.shelf = found.unwrap_or(other.shelves.len());
        if found.is_none() {
            other.shelves.push(Shelf { market: *market, model: model.clone(), by_gpus: BTreeMap::new() });
        }
        other.put(node, room);
    }

    /// Whether a worker goes to `node` rather than to `other`, if nothing was on that one.
    pub(super) fn is_fuller(&self, node: NodeId, other: &NodeSupply) -> bool {
        let whole = (other.terms.gpus.count, other.size.cpus, other.size.memory, other.id);
        self.rooms.get(&node).is_some_and(|room| (room.gpus, room.size.cpus, room.size.memory, node) < whole)
    }

    /// Up to `most` nodes with room for one worker of the job each, the fullest first.
    pub(super) fn fitting(&self, job: &JobDemand, most: usize, allowed: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let mut found: Vec<(GpuCount, Place)> = Vec::new();
        if most == 0 {
            return Vec::new();
        }
        for shelf in self.shelves.iter().filter(|shelf| shelf.serves(job)) {
            let levels = shelf.by_gpus.range(job.terms.gpus.count..);
            let places = levels.flat_map(|(gpus, places)| {
                places.range((job.need.cpus, MemoryMib(0), NodeId::new(0))..).map(|place| (*gpus, *place))
            });
            let fitting = places.filter(|(_, (_, memory, node))| *memory >= job.need.memory && allowed(*node));
            found.extend(fitting.take(most));
        }
        found.sort_unstable();
        found.into_iter().map(|(_, (.., node))| node).take(most).collect()
    }

    fn put(&mut self, node: NodeId, room: Room) {
        let level = self.shelves[room.shelf].by_gpus.entry(room.gpus).or_default();
        level.insert((room.size.cpus, room.size.memory, node));
        self.rooms.insert(node, room);
    }

    fn remove_room(&mut self, node: NodeId) -> Option<Room> {
        let room = self.rooms.remove(&node)?;
        let levels = &mut self.shelves[room.shelf].by_gpus;
        if let Some(level) = levels.get_mut(&room.gpus) {
            level.remove(&(room.size.cpus, room.size.memory, node));
            if level.is_empty() {
                levels.remove(&room.gpus);
            }
        }
        Some(room)
    }
}

impl Shelf {
    fn serves(&self, job: &JobDemand) -> bool {
        let model = job.terms.gpus.accepts(self.model.as_deref());
        model && job.takes(self.market)
    }
}
