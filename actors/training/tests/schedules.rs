//! Trainings under seeded schedules of kills, preemptions and joins: whatever happens, the model has the bytes of an undisturbed
//! training, and every epoch the samples, in the same order. Where the server has a replica no committed step is lost with one of
//! the two.
//!
//! `cargo test` runs the first [`SCHEDULES`] seeds of each kind. More of them:
//!
//! ```text
//! NEAP_SCHEDULES=1000 cargo test --release -p neap-training --test schedules
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::Cluster;
use neap_runtime::wire::training::{Every, Length, Param, Part};
use neap_runtime::wire::worker::{CheckpointRef, EpochFinished, WorkerReport};
use neap_runtime::workload::ReportSender;
use neap_scheduler::elastic::{Candidate, Load, ServerRule, group};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc;

/// Schedules that every test run goes through.
const SCHEDULES: u64 = 20;

/// Workers that a training begins with, and the servers it asks for: every pair of them comes up.
const WORKERS: [usize; 5] = [1, 2, 3, 4, 8];
const SERVERS: [u32; 2] = [1, 3];

/// Workers that a training with a replica begins with.
const REPLICATED: [usize; 4] = [1, 2, 3, 4];

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A training of a few milliseconds a step, with a checkpoint after every third one.
fn small(cluster: &mut Cluster) {
    let launch = &mut cluster.launch;
    launch.train_data.part = Part::Rows(0, 330);
    launch.eval_data = None;
    launch.length = Length::Epochs(8);
    launch.checkpoint_every = Every::Steps(3);
    // The one that is named is there: a killed server has no time to say that it removed it for newer ones.
    launch.checkpoint_keep = 1_000;
    let params = [
        ("hidden1", Param::Int(8)),
        ("hidden2", Param::Int(8)),
        ("lr", Param::Float(0.01)),
        ("optimizer", Param::Text("adamw".to_owned())),
        ("weight_decay", Param::Float(0.01)),
        ("clip_norm", Param::Float(0.5)),
    ];
    launch.params = params.map(|(name, value)| (name.to_owned(), value)).to_vec();
}

/// What a training brought.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    model: Vec<u8>,
    /// Samples and their digest, by epoch.
    epochs: BTreeMap<u32, (u64, [u8; 32])>,
}

/// What may happen; the last two only where a server has a replica.
const EVENTS: [&str; 6] = ["kill", "preempt", "join", "join and spread", "kill both", "kill in turn"];

/// Plays the control plane of one training.
struct Driver {
    cluster: Cluster,
    rng: ChaCha8Rng,
    alive: Vec<usize>,
    servers: Vec<WorkerId>,
    server_count: u32,
    replicas: Vec<WorkerId>,
    replica_count: u32,
    /// Whether a step was committed since the server and its replica are the ones they are: then both have the state.
    in_step: bool,
    /// Steps that were committed under earlier memberships and cannot be lost any more.
    floor: u64,
    /// Steps that were committed.
    reached: u64,
    /// Whether a checkpoint of the last step may be published once more.
    asked: bool,
    reports: (mpsc::Sender<WorkerReport>, mpsc::Receiver<WorkerReport>),
    last: Option<CheckpointRef>,
    epochs: BTreeMap<u32, (u64, [u8; 32])>,
    finished: bool,
    told: String,
}

impl Driver {
    async fn start(seed: u64, workers: usize, server_count: u32, replica_count: u32) -> Self {
        let mut cluster = Cluster::new();
        small(&mut cluster);
        cluster.launch.replicas = replica_count;
        if replica_count > 0 {
            // Every committed step is told of.
            cluster.launch.checkpoint_every = Every::Steps(1);
        }
        let mut driver = Self {
            cluster,
            rng: ChaCha8Rng::seed_from_u64(seed),
            alive: Vec::new(),
            servers: Vec::new(),
            server_count,
            replicas: Vec::new(),
            replica_count,
            in_step: false,
            floor: 0,
            reached: 0,
            asked: false,
            reports: mpsc::channel(256),
            last: None,
            epochs: BTreeMap::new(),
            finished: false,
            told: format!("seed {seed}: {workers} workers, {server_count} servers, {replica_count} replicas"),
        };
        (0..workers).for_each(|_| driver.start_worker());
        driver.regroup(true).await;
        driver
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.next_u32() as usize % bound
    }

    fn start_worker(&mut self) {
        let at = self.cluster.start_worker();
        self.alive.push(at);
        let mut reports = std::mem::replace(&mut self.cluster.workers[at].reports, ReportSender::channel().1);
        let all = self.reports.0.clone();
        tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                if all.send(report).await.is_err() {
                    return;
                }
            }
        });
    }

    /// As the control plane groups: servers that change place go on from the last checkpoint.
    async fn regroup(&mut self, grow: bool) {
        let id = |at: &usize| self.cluster.workers[*at].id;
        let at = |id: WorkerId| id.number() as usize - 1;
        let candidates: Vec<_> = self
            .alive
            .iter()
            .map(|worker| Candidate { worker: id(worker), bare_server: false, load: Load::default() })
            .collect();
        let rule = ServerRule {
            current: &self.servers,
            replicas: &self.replicas,
            count: self.server_count,
            replica_count: self.replica_count,
            separate: false,
            grow,
        };
        let grouping = group(&candidates, self.cluster.launch.logical_shards, rule).unwrap();
        let (stays, same_replicas) = (grouping.servers == self.servers, grouping.replicas == self.replicas);
        let taken_over = self.in_step && self.replicas == grouping.servers;
        if !stays && !taken_over {
            self.reached = 0;
        }
        (self.floor, self.asked) = (self.reached, false);
        self.in_step &= stays && same_replicas;
        let restore = self.last.clone().filter(|_| grouping.servers != self.servers);
        let members: Vec<_> = grouping.members.iter().map(|&(worker, block)| (at(worker), block)).collect();
        let servers: Vec<_> = grouping.servers.iter().map(|&server| at(server)).collect();
        let replicas: Vec<_> = grouping.replicas.iter().map(|&replica| at(replica)).collect();
        (self.servers, self.replicas) = (grouping.servers, grouping.replicas);
        self.cluster.announce(&members, &servers, &replicas, restore).await;
    }

    /// A step was committed under a membership.
    fn note_step(&mut self, membership: MembershipEpoch, step: u64) {
        if self.replica_count > 0 && membership == self.cluster.membership_epoch() {
            let goes_on = step > self.floor || self.asked && step == self.floor;
            assert!(goes_on, "step {step} after {}: {}", self.floor, self.told);
            (self.reached, self.in_step) = (self.reached.max(step), true);
        }
    }

    /// The next report of whoever; what it says is kept.
    async fn next_report(&mut self) -> WorkerReport {
        let report = tokio::time::timeout(PATIENCE, self.reports.1.recv()).await;
        let report = report.unwrap_or_else(|_| panic!("nothing happens any more: {}", self.told)).unwrap();
        match &report {
            WorkerReport::Progress(progress) => self.note_step(progress.membership, progress.step),
            WorkerReport::Checkpoint(published) => self.note_step(published.membership, published.checkpoint.step),
            _ => {}
        }
        match &report {
            WorkerReport::Checkpoint(published)
                if self.last.as_ref().is_none_or(|last| last.step <= published.checkpoint.step) =>
            {
                self.last = Some(published.checkpoint.clone());
            }
            WorkerReport::EpochFinished(EpochFinished { epoch, samples, sample_digest, .. }) => {
                let known = self.epochs.insert(*epoch, (*samples, *sample_digest));
                assert!(known.is_none_or(|known| known == (*samples, *sample_digest)), "{}", self.told);
            }
            WorkerReport::Finished(_) => self.finished = true,
            WorkerReport::PeerLost { epoch, .. } if *epoch == self.cluster.membership_epoch() => {
                self.told += ", regroup";
                self.regroup(false).await;
            }
            WorkerReport::Failed { message, .. } => panic!("{message}: {}", self.told),
            _ => {}
        }
        report
    }

    /// Waits until so many checkpoints are published, or the end.
    async fn checkpoints(&mut self, mut count: usize) {
        while count > 0 && !self.finished {
            count -= usize::from(matches!(self.next_report().await, WorkerReport::Checkpoint(_)));
        }
    }

    async fn save(&mut self) {
        self.asked = true;
        let lead = self.servers[0].number() as usize - 1;
        self.cluster.save_now(lead).await;
        self.checkpoints(1).await;
    }

    /// Something happens to one of the workers, or one more comes.
    async fn disturb(&mut self) {
        let events = match (self.alive.len(), self.replica_count) {
            (1, _) => 2..3,
            (2, _) | (_, 0) => 0..4,
            _ => 0..6,
        };
        let event = events.start + self.below(events.len());
        let at = self.below(self.alive.len());
        let lost = self.alive[at];
        self.told += &format!(", {}", EVENTS[event]);
        match event {
            0 => {
                self.cluster.kill(lost).await;
                self.alive.remove(at);
                self.regroup(false).await;
            }
            1 => {
                self.save().await;
                self.alive.remove(at);
                self.regroup(false).await;
                self.cluster.kill(lost).await;
            }
            2 => {
                self.start_worker();
                self.regroup(false).await;
            }
            3 => {
                self.save().await;
                self.start_worker();
                self.regroup(true).await;
            }
            4 => {
                let both: Vec<_> = self.servers.iter().chain(&self.replicas).copied().collect();
                for worker in both {
                    self.kill(worker).await;
                }
                self.regroup(false).await;
            }
            _ => {
                // Whoever serves, and at once whoever serves then.
                for _ in 0..2 {
                    self.kill(self.servers[0]).await;
                    self.regroup(false).await;
                }
            }
        }
    }

    async fn kill(&mut self, worker: WorkerId) {
        let lost = worker.number() as usize - 1;
        self.cluster.kill(lost).await;
        self.alive.retain(|&at| at != lost);
    }

    async fn run(mut self, disturbances: usize) -> (Outcome, String) {
        for _ in 0..disturbances {
            let pause = self.below(4);
            self.checkpoints(pause).await;
            if self.finished {
                break;
            }
            self.disturb().await;
        }
        while !self.finished {
            self.next_report().await;
        }
        (Outcome { model: self.cluster.model(), epochs: self.epochs }, self.told)
    }
}

fn schedules() -> u64 {
    std::env::var("NEAP_SCHEDULES").ok().map_or(SCHEDULES, |count| count.parse().unwrap())
}

/// Goes through a schedule, and compares what it leaves with what an undisturbed training leaves.
async fn check(mut driver: Driver, undisturbed: &Outcome) {
    let disturbances = 2 + driver.below(4);
    let (outcome, told) = driver.run(disturbances).await;
    assert!(outcome.model == undisturbed.model, "another model: {told}");
    assert_eq!(outcome.epochs, undisturbed.epochs, "other samples: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_kills_preemptions_and_joins_leaves_a_trace() {
    let (undisturbed, _) = Driver::start(0, 1, 1, 0).await.run(0).await;
    assert_eq!(undisturbed.epochs.len(), 8);
    assert!(undisturbed.epochs.values().all(|&(samples, _)| samples == 330));
    for seed in 0..schedules() {
        let workers = WORKERS[seed as usize % WORKERS.len()];
        let servers = SERVERS[seed as usize / WORKERS.len() % SERVERS.len()];
        check(Driver::start(seed, workers, servers, 0).await, &undisturbed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_replica_no_committed_step_is_lost_with_one_of_the_two() {
    let (undisturbed, _) = Driver::start(0, 1, 1, 0).await.run(0).await;
    for seed in 0..schedules() {
        let workers = REPLICATED[seed as usize % REPLICATED.len()];
        check(Driver::start(seed, workers, 1, 1).await, &undisturbed).await;
    }
}
