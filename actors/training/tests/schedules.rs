//! Trainings under seeded schedules of kills, preemptions and joins: whatever happens, the model has the bytes of an undisturbed
//! training, and every epoch the samples, in the same order.
//!
//! `cargo test` runs the first [`SCHEDULES`] seeds. More of them:
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
use neap_scheduler::model::WorkerId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc;

/// Schedules that every test run goes through.
const SCHEDULES: u64 = 20;

/// Workers that a training begins with, and the servers it asks for: every pair of them comes up.
const WORKERS: [usize; 5] = [1, 2, 3, 4, 8];
const SERVERS: [u32; 2] = [1, 3];

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

/// Plays the control plane of one training.
struct Driver {
    cluster: Cluster,
    rng: ChaCha8Rng,
    alive: Vec<usize>,
    servers: Vec<WorkerId>,
    server_count: u32,
    reports: (mpsc::Sender<WorkerReport>, mpsc::Receiver<WorkerReport>),
    last: Option<CheckpointRef>,
    epochs: BTreeMap<u32, (u64, [u8; 32])>,
    finished: bool,
    told: String,
}

impl Driver {
    async fn start(seed: u64, workers: usize, server_count: u32) -> Self {
        let mut cluster = Cluster::new();
        small(&mut cluster);
        let mut driver = Self {
            cluster,
            rng: ChaCha8Rng::seed_from_u64(seed),
            alive: Vec::new(),
            servers: Vec::new(),
            server_count,
            reports: mpsc::channel(256),
            last: None,
            epochs: BTreeMap::new(),
            finished: false,
            told: format!("seed {seed}: {workers} workers, {server_count} servers"),
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
        let rule = ServerRule { current: &self.servers, count: self.server_count, separate: false, grow };
        let grouping = group(&candidates, self.cluster.launch.logical_shards, rule).unwrap();
        let restore = self.last.clone().filter(|_| grouping.servers != self.servers);
        let members: Vec<_> = grouping.members.iter().map(|&(worker, block)| (at(worker), block)).collect();
        let servers: Vec<_> = grouping.servers.iter().map(|&server| at(server)).collect();
        self.servers = grouping.servers;
        self.cluster.announce(&members, &servers, restore).await;
    }

    /// The next report of whoever; what it says is kept.
    async fn next_report(&mut self) -> WorkerReport {
        let report = tokio::time::timeout(PATIENCE, self.reports.1.recv()).await;
        let report = report.unwrap_or_else(|_| panic!("nothing happens any more: {}", self.told)).unwrap();
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
        let lead = self.servers[0].number() as usize - 1;
        self.cluster.save_now(lead).await;
        self.checkpoints(1).await;
    }

    /// Something happens to one of the workers, or one more comes.
    async fn disturb(&mut self) {
        let event = if self.alive.len() == 1 { 2 } else { self.below(4) };
        let at = self.below(self.alive.len());
        let lost = self.alive[at];
        self.told += &format!(", {}", ["kill", "preempt", "join", "join and spread"][event]);
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
            _ => {
                self.save().await;
                self.start_worker();
                self.regroup(true).await;
            }
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_kills_preemptions_and_joins_leaves_a_trace() {
    let schedules = std::env::var("NEAP_SCHEDULES").ok().map_or(SCHEDULES, |count| count.parse().unwrap());
    let (undisturbed, _) = Driver::start(0, 1, 1).await.run(0).await;
    assert_eq!(undisturbed.epochs.len(), 8);
    assert!(undisturbed.epochs.values().all(|&(samples, _)| samples == 330));
    for seed in 0..schedules {
        let workers = WORKERS[seed as usize % WORKERS.len()];
        let servers = SERVERS[seed as usize / WORKERS.len() % SERVERS.len()];
        let mut driver = Driver::start(seed, workers, servers).await;
        let disturbances = 2 + driver.below(4);
        let (outcome, told) = driver.run(disturbances).await;
        assert!(outcome.model == undisturbed.model, "another model: {told}");
        assert_eq!(outcome.epochs, undisturbed.epochs, "other samples: {told}");
    }
}
