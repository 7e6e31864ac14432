//! Who carries a job: from the workers that are there, the blocks of logical shards and the homes of the parameter servers.

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
    /// Whose processes hold the parameters, a segment each; the first one leads. Never empty.
    pub servers: Vec<WorkerId>,
    /// Whose processes hold a replica of what the server holds; none of them is a server.
    pub replicas: Vec<WorkerId>,
}

/// Where a job's parameter servers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRule<'a> {
    /// Where they are now, in the order of their segments.
    pub current: &'a [WorkerId],
    /// Where the replicas are now. The first one that is there takes the place of a server that is not.
    pub replicas: &'a [WorkerId],
    /// How many there are at most, each in another worker's process.
    pub count: u32,
    /// How many replicas there are at most, each in the process of a worker that is no server.
    pub replica_count: u32,
    /// Whether they are in processes of their own.
    pub separate: bool,
    /// Whether servers that can all stay are joined by further ones, up to the count. That moves every segment.
    pub grow: bool,
}

/// Groups the candidates: blocks in the order of the workers' ids, so that a newcomer moves as few shards as can be; how
/// long they are says [`balance`].
/// Parameter servers stay where they are if they can; where one cannot, or they may grow, they are filled up with the
/// workers that hold replicas, then with the oldest ones: bare servers where they are separate. Replicas stay too, and are
/// filled up in the same way from the workers that are no servers. `None` where nobody could carry a shard, or `separate` servers have no
/// worker of their own.
pub fn group(candidates: &[Candidate], logical_shards: u32, rule: ServerRule<'_>) -> Option<Grouping> {
    let mut trainers: Vec<WorkerId> = ids(candidates, false);
    let bare: Vec<WorkerId> = ids(candidates, true);
    trainers.truncate(logical_shards as usize);
    let servers = place_servers(if rule.separate { &bare } else { &trainers }, rule);
    let replicas = place_replicas(&trainers, &servers, rule);
    let loads: Vec<Load> = trainers.iter().filter_map(|&worker| load(candidates, worker)).collect();
    let blocks = blocks(&balance(logical_shards, &loads));
    let mut members: Vec<_> = trainers.into_iter().zip(blocks).collect();
    if members.is_empty() || servers.is_empty() {
        return None;
    }
    if rule.separate {
        members.extend(servers.iter().map(|&server| (server, ShardRange { start: 0, end: 0 })));
    }
    Some(Grouping { members, servers, replicas })
}

fn place_servers(hosts: &[WorkerId], rule: ServerRule<'_>) -> Vec<WorkerId> {
    let mut servers: Vec<_> = rule.current.iter().copied().filter(|server| hosts.contains(server)).collect();
    let all_stay = !servers.is_empty() && servers.len() == rule.current.len();
    if all_stay && !rule.grow {
        return servers;
    }
    let replicas = rule.replicas.iter().filter(|replica| hosts.contains(replica));
    fill_up(&mut servers, replicas.chain(hosts));
    servers.truncate(rule.count.max(1) as usize);
    servers
}

fn place_replicas(trainers: &[WorkerId], servers: &[WorkerId], rule: ServerRule<'_>) -> Vec<WorkerId> {
    let free: Vec<_> = trainers.iter().filter(|trainer| !servers.contains(trainer)).collect();
    let stay = rule.replicas.iter().filter(|replica| free.contains(replica));
    let mut replicas = Vec::new();
    fill_up(&mut replicas, stay.chain(free.iter().copied()));
    replicas.truncate(rule.replica_count as usize);
    replicas
}

/// Adds those that are not there yet, in order.
fn fill_up<'a>(places: &mut Vec<WorkerId>, more: impl Iterator<Item = &'a WorkerId>) {
    for &worker in more {
        if !places.contains(&worker) {
            places.push(worker);
        }
    }
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
            load: Load { carried, shard_us: Some(shard_us), holds_data: true },
            ..worker(number, false)
        };
        let lengths = |candidates: &[Candidate]| {
            let grouping = group(
                candidates,
                8,
                ServerRule { current: &[], replicas: &[], replica_count: 0, count: 1, separate: false, grow: false },
            )
            .unwrap();
            grouping.members.iter().map(|(_, block)| block.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[of(2, 4, 3_000), of(1, 4, 1_000)]), [6, 2]);
        assert_eq!(lengths(&[of(2, 2, 3_100), of(1, 6, 950)]), [6, 2]);
        assert_eq!(lengths(&[of(2, 2, 1_000), of(1, 6, 1_000)]), [4, 4]);
    }

    fn server_ids(numbers: &[u64]) -> Vec<WorkerId> {
        numbers.iter().map(|&number| WorkerId::new(number)).collect()
    }

    /// The servers of colocated jobs among these workers.
    fn servers(workers: &[u64], current: &[u64], count: u32, grow: bool) -> Vec<u64> {
        let candidates: Vec<_> = workers.iter().map(|&number| worker(number, false)).collect();
        let rule =
            ServerRule { current: &server_ids(current), replicas: &[], replica_count: 0, count, separate: false, grow };
        group(&candidates, 8, rule).unwrap().servers.into_iter().map(WorkerId::number).collect()
    }

    #[test]
    fn servers_stay_where_they_are() {
        assert_eq!(servers(&[3, 1, 2], &[2], 1, true), [2]);
        assert_eq!(servers(&[3, 1, 2], &[9], 1, false), [1]);
        assert_eq!(servers(&[1, 2, 3, 4], &[4, 2], 2, true), [4, 2]);
    }

    #[test]
    fn a_replica_takes_the_servers_place_and_another_worker_the_replicas() {
        let place = |workers: &[u64], current: &[u64], replicas: &[u64]| {
            let (current, replicas) = (server_ids(current), server_ids(replicas));
            let candidates: Vec<_> = workers.iter().map(|&number| worker(number, false)).collect();
            let rule = ServerRule {
                current: &current,
                replicas: &replicas,
                count: 1,
                replica_count: 1,
                separate: false,
                grow: true,
            };
            let grouping = group(&candidates, 8, rule).unwrap();
            let numbers = |ids: Vec<WorkerId>| ids.into_iter().map(WorkerId::number).collect::<Vec<_>>();
            (numbers(grouping.servers), numbers(grouping.replicas))
        };
        assert_eq!(place(&[1, 2, 3], &[], &[]), (vec![1], vec![2]));
        assert_eq!(place(&[1, 2, 3], &[2], &[3]), (vec![2], vec![3]), "both stay");
        assert_eq!(place(&[1, 3, 4], &[2], &[3]), (vec![3], vec![1]), "the server is lost");
        assert_eq!(place(&[1, 2, 4], &[2], &[3]), (vec![2], vec![1]), "the replica is lost");
        assert_eq!(place(&[1, 4], &[2], &[3]), (vec![1], vec![4]), "both are lost");
        assert_eq!(place(&[3], &[2], &[3]), (vec![3], vec![]), "nobody is left to hold a replica");
        assert_eq!(place(&[1, 2], &[1], &[1]), (vec![1], vec![2]), "a server holds no replica of itself");
    }

    #[test]
    fn several_servers_are_in_as_many_processes_as_there_are() {
        assert_eq!(servers(&[1, 2], &[], 3, false), [1, 2]);
        assert_eq!(servers(&[1, 2, 3, 4], &[], 3, false), [1, 2, 3]);
        // A newcomer is taken where they may grow; a lost one is replaced in any case.
        assert_eq!(servers(&[1, 2, 3], &[1, 2], 3, false), [1, 2]);
        assert_eq!(servers(&[1, 2, 3], &[1, 2], 3, true), [1, 2, 3]);
        assert_eq!(servers(&[2, 3, 4], &[1, 2, 3], 3, false), [2, 3, 4]);
        assert_eq!(servers(&[1, 3], &[1, 2, 3], 3, false), [1, 3]);
        // A job that asks for fewer than there are keeps them until one goes.
        assert_eq!(servers(&[1, 2], &[1, 2], 1, false), [1, 2]);
    }

    #[test]
    fn a_grouping_fed_back_changes_nothing() {
        for grow in [false, true] {
            let first = servers(&[5, 2, 9, 4], &[9, 7], 3, grow);
            assert_eq!(servers(&[5, 2, 9, 4], &first, 3, grow), first);
        }
    }

    #[test]
    fn a_separate_server_carries_no_shard() {
        let rule = ServerRule { current: &[], replicas: &[], replica_count: 0, count: 2, separate: true, grow: false };
        let grouping = group(&[worker(1, false), worker(2, true), worker(3, false)], 2, rule).unwrap();
        assert_eq!(grouping.servers, server_ids(&[2]));
        let lengths: Vec<_> = grouping.members.iter().map(|(id, block)| (id.number(), block.len())).collect();
        assert_eq!(lengths, [(1, 1), (3, 1), (2, 0)]);
        assert!(group(&[worker(1, false)], 2, rule).is_none());
    }

    #[test]
    fn more_workers_than_shards_leave_some_out() {
        let many: Vec<_> = (1..6).map(|number| worker(number, false)).collect();
        let rule = ServerRule { current: &[], replicas: &[], replica_count: 0, count: 5, separate: false, grow: false };
        let grouping = group(&many, 2, rule).unwrap();
        assert_eq!((grouping.members.len(), grouping.servers.len()), (2, 2));
    }
}
