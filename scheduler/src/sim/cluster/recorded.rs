//! A world made from the rounds that a control plane recorded, to try other policies on the same jobs and offers.
//!
//! What the reconstruction assumes, because rounds do not say it:
//!
//! - A job's work is the time that its workers were seen running, all together, with what it had to do again after losses;
//!   more workers would have shortened it in proportion. A worker runs from the round that started it until the round that
//!   ended it or, where it was gone in a later round, until its node fell idle, else until that round. So the start of a
//!   worker's process counts as work.
//! - A job that had not ended when the recording did has the work that was seen of it, which is too little. One that never
//!   ran is left out: nothing is known of its work.
//! - An offer is as it was first seen, and as many of its nodes can be had as were ever there and available at one time.
//!   It boots in the time it promised, never fails, and spot nodes are taken back at random, as often as was last
//!   observed of the offer, not when it really happened.
//! - Parameter servers on nodes of their own, limits on what a job may cost in an hour and budgets are not simulated.
//!
//! So the same policy, simulated, comes close to the recorded history and does not repeat it: compare simulations with
//! each other. Start at [`recorded_world`].

use std::collections::BTreeMap;

use super::world::{Estimate, Provider, Settings, SimJob, World};
use crate::model::{JobId, Millis, NodeId, Offer};
use crate::policy::{JobDemand, NodeSupply, PlacedRole, Snapshot, WorkLeft};
use crate::replay::{ActionRecord, RoundRecord};

/// A world made from recorded rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedWorld {
    /// The world; its time begins with the first submission.
    pub world: World,
    /// When that was.
    pub origin: Millis,
    /// Jobs that had not ended when the recording did.
    pub unfinished: Vec<JobId>,
    /// Jobs that were left out, because they never ran.
    pub left_out: Vec<JobId>,
}

/// A round with its inputs as they were.
struct Round<'a> {
    snapshot: Snapshot,
    actions: &'a [ActionRecord],
}

/// Workers that carry shards, by job and node.
type Workers = BTreeMap<(JobId, NodeId), u32>;

/// Makes a world from rounds, in the order in which they were recorded.
pub fn recorded_world<'a>(rounds: impl IntoIterator<Item = &'a RoundRecord>, seed: u64) -> RecordedWorld {
    let round = |record: &'a RoundRecord| Round { snapshot: record.inputs.snapshot(), actions: &record.plan.actions };
    let rounds: Vec<Round<'_>> = rounds.into_iter().map(round).collect();
    let mut first_seen: BTreeMap<JobId, &JobDemand> = BTreeMap::new();
    for job in rounds.iter().flat_map(|round| &round.snapshot.jobs) {
        first_seen.entry(job.id).or_insert(job);
    }
    let origin = first_seen.values().map(|job| job.submitted).min().unwrap_or_default();
    let work = observed_work(&rounds);
    let worked = |job: &&JobDemand| work.get(&job.id).is_some_and(|work| *work > Millis::ZERO);
    let (ran, never): (Vec<&JobDemand>, Vec<&JobDemand>) = first_seen.values().copied().partition(worked);
    let mut jobs: Vec<SimJob> = ran.iter().map(|job| sim_job(job, work[&job.id], origin)).collect();
    jobs.sort_by_key(|job| job.submitted);
    let idle_release = rounds.last().map(|round| round.snapshot.idle_release).unwrap_or_default();
    let settings = Settings { idle_release, seed, ..Settings::default() };
    RecordedWorld {
        world: World { jobs, nodes: Vec::new(), providers: providers(&rounds), settings },
        origin,
        unfinished: unfinished(&rounds),
        left_out: never.iter().map(|job| job.id).collect(),
    }
}

/// The time of all workers of each job together.
fn observed_work(rounds: &[Round<'_>]) -> BTreeMap<JobId, Millis> {
    let mut work: BTreeMap<JobId, Millis> = BTreeMap::new();
    for pair in rounds.windows(2) {
        let (from, until) = (pair[0].snapshot.now, pair[1].snapshot.now);
        let after = workers(&pair[1].snapshot);
        for ((job, node), count) in workers_after(&pair[0]) {
            let stayed = after.get(&(job, node)).copied().unwrap_or_default().min(count);
            let idle_since = pair[1].snapshot.nodes.iter().find(|one| one.id == node).and_then(|node| node.idle_since);
            let gone = idle_since.filter(|since| (from..=until).contains(since)).unwrap_or(until);
            let sum = work.entry(job).or_default();
            *sum = *sum + times(until.since(from), stayed) + times(gone.since(from), count - stayed);
        }
    }
    work
}

fn times(time: Millis, count: u32) -> Millis {
    Millis::new(time.get().saturating_mul(u64::from(count)))
}

fn workers(snapshot: &Snapshot) -> Workers {
    let mut workers = Workers::new();
    for job in &snapshot.jobs {
        for placed in job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer) {
            *workers.entry((job.id, placed.node)).or_default() += 1;
        }
    }
    workers
}

/// The workers once the round's plan is carried out.
fn workers_after(round: &Round<'_>) -> Workers {
    let mut workers = workers(&round.snapshot);
    for action in round.actions {
        match action {
            ActionRecord::Start { job, node, server: false, .. } => *workers.entry((*job, *node)).or_default() += 1,
            ActionRecord::Retire { job, worker, .. } => {
                let demand = round.snapshot.jobs.iter().find(|one| one.id == *job);
                let placed = demand.and_then(|demand| demand.placed.iter().find(|placed| placed.worker == *worker));
                if let Some(count) = placed.and_then(|placed| workers.get_mut(&(*job, placed.node))) {
                    *count = count.saturating_sub(1);
                }
            }
            _ => {}
        }
    }
    workers
}

/// Jobs that the last round leaves at work or waiting.
fn unfinished(rounds: &[Round<'_>]) -> Vec<JobId> {
    let jobs = rounds.last().map(|round| round.snapshot.jobs.as_slice()).unwrap_or_default();
    jobs.iter().filter(|job| !job.stopping).map(|job| job.id).collect()
}

fn sim_job(job: &JobDemand, work: Millis, origin: Millis) -> SimJob {
    let terms = &job.terms;
    SimJob {
        project: terms.project.clone(),
        workers: job.workers,
        need: job.need,
        gpus: terms.gpus.clone(),
        market: job.market,
        either_market: terms.either_market,
        max_price: job.max_price,
        priority: terms.priority,
        objective: terms.objective,
        deadline: terms.deadline.map(|deadline| deadline.since(origin)),
        work,
        estimate: terms.work.map(|known| estimate(known, work)),
        checkpoint_every: terms.checkpoint_every,
        restart: terms.restart,
        ..SimJob::rigid(job.id.to_string(), job.submitted.since(origin), job.workers.target, work)
    }
}

/// What was known of a job's work, against what was seen of it.
fn estimate(known: WorkLeft, work: Millis) -> Estimate {
    let permille = |part: Millis| {
        let permille = u128::from(part.get()) * 1_000 / u128::from(work.get().max(1));
        u32::try_from(permille).unwrap_or(u32::MAX)
    };
    Estimate {
        low_permille: permille(known.low),
        likely_permille: permille(known.likely),
        high_permille: permille(known.high),
    }
}

/// What could be rented, in the order in which it was first seen.
fn providers(rounds: &[Round<'_>]) -> Vec<Provider> {
    let mut providers: Vec<Provider> = Vec::new();
    let notice = longest_notice(rounds);
    for round in rounds {
        for offer in &round.snapshot.offers {
            let rented = round.snapshot.nodes.iter().filter(|node| is_from(node, offer)).count();
            let there = offer.available.saturating_add(u32::try_from(rented).unwrap_or(u32::MAX));
            let interruptions = offer.terms.interruptions_per_1000_h;
            match providers.iter_mut().find(|known| known.name == offer.name) {
                Some(known) => {
                    known.quota = known.quota.max(there);
                    known.interruptions_per_1000_h = interruptions;
                }
                None => providers.push(provider(offer, there, notice)),
            }
        }
    }
    providers
}

/// Whether a node was rented by such an offer; rounds do not name a node's offer.
fn is_from(node: &NodeSupply, offer: &Offer) -> bool {
    (node.size, node.market, node.price) == (offer.size, offer.market, offer.price)
        && node.terms.gpus == offer.terms.gpus
}

fn provider(offer: &Offer, quota: u32, notice: Millis) -> Provider {
    Provider {
        name: offer.name.clone(),
        size: offer.size,
        gpus: offer.terms.gpus.clone(),
        market: offer.market,
        price: offer.price,
        billing_min: offer.terms.billing_min,
        quota,
        boot: (offer.boot, offer.boot),
        failing_permille: 0,
        interruptions_per_1000_h: offer.terms.interruptions_per_1000_h,
        notice,
    }
}

/// The longest time that a node was seen to have left after a notice.
fn longest_notice(rounds: &[Round<'_>]) -> Millis {
    let left = |round: &Round<'_>| {
        let now = round.snapshot.now;
        round.snapshot.nodes.iter().filter_map(move |node| Some(node.notice_until?.since(now))).max()
    };
    rounds.iter().filter_map(left).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{JobOutcome, Report, simulate, simulate_watched};
    use super::*;
    use crate::model::{CpuMillis, Gpus, Market, MemoryMib, MicroUsdPerHour, NodeSize};
    use crate::policy::{Fifo, Policy, Priority};
    use crate::spec::WorkerRange;

    /// Twelve jobs of one to three workers and one long after them, and an offer of three nodes that each carry one worker.
    fn world() -> World {
        let size = NodeSize { cpus: CpuMillis(1_000), memory: MemoryMib(1_000) };
        let offer = Provider {
            name: "local/small/od".to_owned(),
            size,
            gpus: Gpus::default(),
            market: Market::OnDemand,
            price: MicroUsdPerHour::new(360_000),
            billing_min: Millis::ZERO,
            quota: 3,
            boot: (Millis::from_secs(20), Millis::from_secs(20)),
            failing_permille: 0,
            interruptions_per_1000_h: 0,
            notice: Millis::ZERO,
        };
        let job = |number: u64| SimJob {
            need: size,
            workers: WorkerRange { min: 1, target: 1 + number as u32 % 3, max: 3 },
            priority: 100 * (number as u16 % 7),
            checkpoint_every: Some(Millis::from_secs(1)),
            ..SimJob::rigid(
                format!("j{}", number + 1),
                Millis::from_secs(if number < 12 { 5_000 + number * 90 } else { 50_000 }),
                1,
                Millis::from_secs(400),
            )
        };
        let settings = Settings { idle_release: Millis::from_secs(60), ..Settings::default() };
        World { jobs: (0..13).map(job).collect(), nodes: Vec::new(), providers: vec![offer], settings }
    }

    fn recorded(world: &World, policy: &dyn Policy) -> (Report, Vec<RoundRecord>) {
        let mut rounds = Vec::new();
        let report = simulate_watched(world, policy, &mut |snapshot, plan| {
            if !plan.actions.is_empty() {
                rounds.push(RoundRecord::new(policy, snapshot, plan));
            }
        });
        (report, rounds)
    }

    #[test]
    fn the_world_that_was_recorded_is_found_again() {
        let truth = world();
        let (report, rounds) = recorded(&truth, &Fifo);
        let found = recorded_world(&rounds, 0);
        assert_eq!(found.origin, Millis::from_secs(5_000));
        assert_eq!((&found.world.providers, found.world.settings), (&truth.providers, truth.settings));
        // Of the thirteenth no later round need say when it ended.
        for (found, job) in found.world.jobs.iter().zip(&truth.jobs).take(12) {
            let same = (found.work, found.workers, found.priority) == (job.work, job.workers, job.priority);
            assert!(same, "{}: {} for {}", found.name, found.work, job.work);
        }
        let again = simulate(&found.world, &Fifo);
        let same = |(one, other): (&JobOutcome, &JobOutcome)| {
            one.wait() == other.wait() && one.completion() == other.completion()
        };
        assert!(again.jobs.len() >= 12 && again.jobs.iter().zip(&report.jobs).take(12).all(same), "{again:?}");
    }

    #[test]
    fn preempted_jobs_have_the_work_that_was_seen_of_them() {
        let truth = world();
        let (report, rounds) = recorded(&truth, &Priority);
        assert!(report.jobs.iter().any(|job| job.preemptions > 0), "{report:?}");
        for (found, job) in recorded_world(&rounds, 0).world.jobs.iter().zip(&truth.jobs).take(12) {
            // What a loss costs at most here is the second between two checkpoints, for each of a few losses.
            let off = found.work.get().abs_diff(job.work.get());
            assert!(off <= 5_000, "{}: {} for {}", found.name, found.work, job.work);
        }
    }

    #[test]
    fn another_policy_can_be_tried_on_a_recording() {
        let (_, rounds) = recorded(&world(), &Fifo);
        let found = recorded_world(&rounds, 0);
        let (fifo, priority) = (simulate(&found.world, &Fifo), simulate(&found.world, &Priority));
        assert!(super::super::diff(&fifo, &priority).len() > 2);
        assert_eq!((fifo.unfinished(), priority.unfinished()), (0, 0));
    }

    #[test]
    fn jobs_at_work_when_the_recording_ends_are_named_and_those_that_never_ran_left_out() {
        let (_, rounds) = recorded(&world(), &Fifo);
        let early = recorded_world(&rounds[..rounds.len() / 2], 0);
        assert!(!early.unfinished.is_empty() && !early.left_out.is_empty(), "{early:?}");
        assert!(early.left_out.iter().all(|job| early.unfinished.contains(job)));
        let nothing = recorded_world(&[], 0);
        assert_eq!((nothing.world.jobs.len(), nothing.origin), (0, Millis::ZERO));
        assert_eq!(simulate(&nothing.world, &Fifo).unfinished(), 0);
    }
}
