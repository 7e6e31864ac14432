//! Who carries a job: from the workers that are there, the blocks of logical shards and the home of the parameter server.

use super::assignment::{Load, ShardRange, balance, blocks};
use crate::model::WorkerId;

/// A worker that could be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The worker.
    pub worker: WorkerId,
    /// Whether it was started to host the parameter server and nothing else.
    pub bare_server: bool,
    /// What it carries and how fast it is.
    pub load: Load,
}

/// Who carries a job, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// Each member with its block of logical shards; empty for a bare parameter server.
    pub members: Vec<(WorkerId, ShardRange)>,
    /// Whose process hosts the parameter server.
    pub server: WorkerId,
}

/// Groups the candidates: blocks in the order of the workers' ids, so that a newcomer moves as few shards as can be; how
/// long they are says [`balance`].
/// The parameter server stays where it is if it can (`server`), else it goes to the bare server, else to the oldest
/// worker. `None` where nobody could carry a shard, or a `separate` server has no worker of its own.
pub fn group(
    candidates: &[Candidate],
    logical_shards: u32,
    server: Option<WorkerId>,
    separate: bool,
) -> Option<Grouping> {
    let mut trainers: Vec<WorkerId> = ids(candidates, false);
    let bare: Vec<WorkerId> = ids(candidates, true);
    trainers.truncate(logical_shards as usize);
    let hosts = if separate { &bare } else { &trainers };
    let stays = server.filter(|server| hosts.contains(server));
    let server = stays.or_else(|| hosts.first().copied())?;
    let loads: Vec<Load> = trainers.iter().filter_map(|&worker| load(candidates, worker)).collect();
    let blocks = blocks(&balance(logical_shards, &loads));
    let mut members: Vec<_> = trainers.into_iter().zip(blocks).collect();
    if members.is_empty() {
        return None;
    }
    if separate {
        members.push((server, ShardRange { start: 0, end: 0 }));
    }
    Some(Grouping { members, server })
}

fn load(candidates: &[Candidate], worker: WorkerId) -> Option<Load> {
    candidates.iter().find(|candidate| candidate.worker == worker).map(|candidate| candidate.load)
}

fn ids(candidates: &[Candidate], bare_server: bool) -> Vec<WorkerId> {
    let mut ids: Vec<_> =
        candidates.iter().filter(|one| one.bare_server == bare_server).map(|one| one.worker).collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(number: u64, bare_server: bool) -> Candidate {
        Candidate { worker: WorkerId::new(number), bare_server, load: Load::default() }
    }

    #[test]
    fn a_slow_worker_carries_less_and_stays_so_while_it_is_slow() {
        let of = |number, carried, shard_us| Candidate {
            load: Load { carried, shard_us: Some(shard_us) },
            ..worker(number, false)
        };
        let lengths = |candidates: &[Candidate]| {
            let grouping = group(candidates, 8, None, false).unwrap();
            grouping.members.iter().map(|(_, block)| block.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[of(2, 4, 3_000), of(1, 4, 1_000)]), [6, 2]);
        assert_eq!(lengths(&[of(2, 2, 3_100), of(1, 6, 950)]), [6, 2]);
        assert_eq!(lengths(&[of(2, 2, 1_000), of(1, 6, 1_000)]), [4, 4]);
    }

    #[test]
    fn the_server_stays_where_it_is() {
        let three = [worker(3, false), worker(1, false), worker(2, false)];
        assert_eq!(group(&three, 8, Some(WorkerId::new(2)), false).unwrap().server, WorkerId::new(2));
        assert_eq!(group(&three, 8, Some(WorkerId::new(9)), false).unwrap().server, WorkerId::new(1));
    }

    #[test]
    fn a_separate_server_carries_no_shard() {
        let grouping = group(&[worker(1, false), worker(2, true), worker(3, false)], 2, None, true).unwrap();
        assert_eq!(grouping.server, WorkerId::new(2));
        let lengths: Vec<_> = grouping.members.iter().map(|(id, block)| (id.number(), block.len())).collect();
        assert_eq!(lengths, [(1, 1), (3, 1), (2, 0)]);
        assert!(group(&[worker(1, false)], 2, None, true).is_none());
    }

    #[test]
    fn more_workers_than_shards_leave_some_out() {
        let many: Vec<_> = (1..6).map(|number| worker(number, false)).collect();
        assert_eq!(group(&many, 2, None, false).unwrap().members.len(), 2);
    }
}
