//! The first job that cannot start, and what later ones may use without delaying it: the arithmetic of EASY backfill.
//! [`super::backfill`] says where it comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::{JobDemand, NodeSupply};
use super::wanted::could_carry;
use crate::model::{JobId, Millis, NodeId, NodeSize, Offer};

/// Who is on a node, the workers that are started in this round among them.
pub(super) type Occupants = BTreeMap<NodeId, BTreeSet<JobId>>;

/// A place kept for the first job that cannot start.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    pub(super) job: &'a JobDemand,
    /// When it is expected to start; unknown if that depends on something without an estimate.
    start: Option<Millis>,
    /// Nodes it could use at its start and does not need.
    spare: u32,
}

impl<'a> Reservation<'a> {
    /// `short` is the number of nodes that the job lacks; `held` are those it has or keeps.
    pub(super) fn new(
        job: &'a JobDemand,
        short: u32,
        held: &BTreeSet<NodeId>,
        now: Millis,
        nodes: &BTreeMap<NodeId, &NodeSupply>,
        running: &Running<'_>,
    ) -> Self {
        let usable = nodes.values().filter(|node| !held.contains(&node.id) && could_carry(job, node));
        let mut times: Vec<Millis> = usable.filter_map(|node| running.room_at(node, job, now)).collect();
        times.sort_unstable();
        let start = (short as usize).checked_sub(1).and_then(|last| times.get(last).copied());
        let at_start = start.map_or(0, |start| times.iter().filter(|&&time| time <= start).count());
        Self { job, start, spare: u32::try_from(at_start).unwrap_or(u32::MAX).saturating_sub(short) }
    }

    /// Whether a later job that starts with `workers` is sure to be gone when this one starts.
    pub(super) fn outlives(&self, later: &JobDemand, workers: u32, now: Millis) -> bool {
        let trainers = workers.saturating_sub(u32::from(later.separate_server));
        match (self.start, later.terms.work) {
            (Some(start), Some(work)) => now + later.terms.restart + work.time_on(work.high, trainers) <= start,
            _ => false,
        }
    }

    /// How many nodes that this job could use may be taken for longer.
    pub(super) fn spare(&self) -> u32 {
        self.spare
    }

    pub(super) fn take_spare(&mut self, nodes: u32) {
        self.spare = self.spare.saturating_sub(nodes);
    }

    pub(super) fn could_use(&self, node: &NodeSupply) -> bool {
        could_carry(self.job, node)
    }

    pub(super) fn could_rent(&self, offer: &Offer) -> bool {
        let job = self.job;
        job.takes(offer.market)
            && offer.size.fits(job.need)
            && offer.terms.gpus.fits(&job.terms.gpus)
            && job.max_price.is_none_or(|most| offer.price <= most)
    }
}

/// The running jobs and their expected ends.
#[derive(Debug)]
pub(super) struct Running<'a> {
    jobs: &'a BTreeMap<JobId, &'a JobDemand>,
    occupants: &'a Occupants,
    ends: BTreeMap<JobId, Millis>,
}

impl<'a> Running<'a> {
    pub(super) fn new(jobs: &'a BTreeMap<JobId, &'a JobDemand>, occupants: &'a Occupants, now: Millis) -> Self {
        let mut workers: BTreeMap<JobId, u32> = BTreeMap::new();
        for job in occupants.values().flatten() {
            *workers.entry(*job).or_default() += 1;
        }
        let end = |(id, workers): (JobId, u32)| {
            let job = jobs.get(&id)?;
            let work = job.terms.work?;
            let trainers = workers.saturating_sub(u32::from(job.separate_server));
            (trainers > 0).then(|| (id, now + work.time_on(work.likely, trainers)))
        };
        Self { jobs, occupants, ends: workers.into_iter().filter_map(end).collect() }
    }

    /// When the node is expected to have room for a worker of `job`, as its occupants end one after the other.
    fn room_at(&self, node: &NodeSupply, job: &JobDemand, now: Millis) -> Option<Millis> {
        let there = self.occupants.get(&node.id).into_iter().flatten().filter_map(|id| self.jobs.get(id));
        let mut staying: Vec<(Option<Millis>, &JobDemand)> =
            there.map(|job| (self.ends.get(&job.id).copied(), *job)).collect();
        staying.sort_by_key(|(end, job)| (end.unwrap_or(Millis::new(u64::MAX)), job.id));
        let mut room_at = now;
        for gone in 0..=staying.len() {
            if has_room(node, staying[gone..].iter().map(|(_, job)| *job), job) {
                return Some(room_at);
            }
            room_at = staying.get(gone)?.0?;
        }
        None
    }
}

/// Whether the node has room for a worker of `job` beside these.
pub(crate) fn has_room<'a>(node: &NodeSupply, beside: impl Iterator<Item = &'a JobDemand>, job: &JobDemand) -> bool {
    let mut left: NodeSize = node.size;
    let mut gpus = node.terms.gpus.clone();
    for other in beside {
        left = left.minus(other.need);
        gpus.count.0 = gpus.count.0.saturating_sub(other.terms.gpus.count.0);
    }
    left.fits(job.need) && gpus.fits(&job.terms.gpus)
}
