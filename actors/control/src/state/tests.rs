//! The ledger over whole histories: nodes come, work, idle and go in any order, and no micro-dollar is lost.

use neap_scheduler::model::{
    CpuMillis, JobId, Market, MemoryMib, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState, WorkerId,
};
use neap_scheduler::pricing::Category;
use neap_scheduler::pricing::attribution::{AttributedLine, lose};
use neap_storage::record::{BilledLine, CheckpointRecord, MemberRecord, Record};
use proptest::prelude::*;

use super::ClusterState;

const JOB_FILE: &str = "\
version: 1
kind: train
workers: 1..4
data: {train: {uri: /data/digits.csv}}
train: {entry: mlp, logical_shards: 8, global_batch: 64, epochs: 1}
";

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Rent { price: u64, cpus: u32 },
    Advance { node: usize },
    StartWorker { job: usize, node: usize },
    Group { job: usize },
    EndWorker { pick: usize },
    Save { job: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..5_000_000, 1u32..5).prop_map(|(price, cpus)| Step::Rent { price, cpus }),
        (0usize..8).prop_map(|node| Step::Advance { node }),
        (0usize..2, 0usize..8).prop_map(|(job, node)| Step::StartWorker { job, node }),
        (0usize..2).prop_map(|job| Step::Group { job }),
        (0usize..8).prop_map(|pick| Step::EndWorker { pick }),
        (0usize..2).prop_map(|job| Step::Save { job }),
    ]
}

struct History {
    state: ClusterState,
    now: Millis,
    lines: Vec<BilledLine>,
}

impl History {
    fn new() -> Self {
        let entry = neap_scheduler::spec::EntryInfo { name: "mlp".to_owned(), default_batch: 64, params: Vec::new() };
        let mut state = ClusterState::replay(&[], vec![entry]).unwrap();
        for number in 1..=2 {
            let submitted = Record::JobSubmitted {
                job: JobId::new(number),
                name: format!("job-{number}"),
                project: "default".to_owned(),
                submitted_at: Millis::ZERO,
                source: JOB_FILE.to_owned(),
                base_dir: "/".to_owned(),
                spec_hash: String::new(),
                estimate: None,
                artifact: None,
                init_digest: None,
            };
            state.apply(&submitted).unwrap();
        }
        Self { state, now: Millis::from_secs(1_000), lines: Vec::new() }
    }

    /// What the controller does: bill what a record touches, then take it in.
    fn take(&mut self, record: &Record) {
        for node in self.state.touched(record) {
            for line in self.state.open_attributed(node, self.now) {
                let line = BilledLine::from(&line);
                self.lines.push(line.clone());
                self.state.apply(&Record::NodeBilled(line)).unwrap();
            }
        }
        self.state.apply(record).unwrap();
    }

    fn node(&self, pick: usize) -> Option<NodeId> {
        let live: Vec<_> = self.state.live_nodes().map(|node| node.id).collect();
        (!live.is_empty()).then(|| live[pick % live.len()])
    }

    fn run(&mut self, step: &Step) {
        let at = self.now;
        match *step {
            Step::Rent { price, cpus } => {
                let size = NodeSize { cpus: CpuMillis::from_cores(cpus), memory: MemoryMib(1_024) };
                self.take(&Record::NodeRequested {
                    node: self.state.next_node(0),
                    offer: "local/x/spot".to_owned(),
                    size,
                    market: Market::Spot,
                    price: MicroUsdPerHour::new(price),
                    for_job: Some(JobId::new(1)),
                    client_token: String::new(),
                    at,
                });
            }
            Step::Advance { node } => {
                let Some(node) = self.node(node) else { return };
                let state = match self.state.nodes[&node].state {
                    NodeState::Requested => NodeState::Booting,
                    NodeState::Booting => NodeState::Joining,
                    NodeState::Joining => NodeState::Ready,
                    NodeState::Ready => NodeState::Releasing,
                    _ => NodeState::Released,
                };
                self.take(&Record::NodeStateChanged { node, at, state, why: String::new() });
            }
            Step::StartWorker { job, node } => {
                let Some(node) = self.node(node) else { return };
                let job = JobId::new(job as u64 + 1);
                let worker = self.state.next_worker(0);
                self.take(&Record::WorkerStarted { job, worker, node, server: false, at });
            }
            Step::Group { job } => {
                let job = &self.state.jobs[&JobId::new(job as u64 + 1)];
                let Some(first) = job.workers.values().next() else { return };
                let member =
                    |worker: &super::WorkerEntry| MemberRecord { worker: worker.id, node: worker.node, shards: (0, 1) };
                let record = Record::MembershipChanged {
                    job: job.id,
                    epoch: job.epoch().next(),
                    members: job.workers.values().map(member).collect(),
                    server: first.id,
                    more_servers: Vec::new(),
                    replicas: Vec::new(),
                    restore: None,
                    at,
                    why: String::new(),
                };
                self.take(&record);
            }
            Step::EndWorker { pick } => {
                let all: Vec<(JobId, WorkerId, NodeId)> = self
                    .state
                    .jobs
                    .values()
                    .flat_map(|job| job.workers.values().map(|one| (job.id, one.id, one.node)))
                    .collect();
                let Some(&(job, worker, node)) = all.get(pick % all.len().max(1)) else { return };
                self.take(&Record::WorkerEnded { job, worker, node, at, why: String::new() });
            }
            Step::Save { job } => {
                let job = JobId::new(job as u64 + 1);
                let checkpoint = CheckpointRecord {
                    membership: self.state.jobs[&job].epoch(),
                    step: 1,
                    epoch: 0,
                    uri: "c".to_owned(),
                    digest: String::new(),
                    bytes: 1,
                };
                self.take(&Record::CheckpointPublished { job, checkpoint, at });
            }
        }
    }
}

proptest! {
    /// Σ(lines) = Σ(price × time) over all nodes, and Σ over jobs and the rest is the same sum (invariant 3).
    #[test]
    fn a_bill_sums_to_price_times_seconds_of_every_node(steps in prop::collection::vec((step(), 0u64..100_000), 1..80)) {
        let mut history = History::new();
        for (step, pause) in &steps {
            history.run(step);
            history.now = history.now + Millis::new(*pause);
        }
        let written: MicroUsd = history.lines.iter().map(|line| line.amount).sum();
        let open: MicroUsd = history.state.live_nodes().flat_map(|node| history.state.open_lines(node.id, history.now)).map(|line| line.amount).sum();
        let nodes: MicroUsd = history.state.nodes.values().map(|node| node.cost(history.now)).sum();
        let priced: MicroUsd = history.state.nodes.values().map(|node| node.price.cost_of(node.time(history.now))).sum();
        prop_assert_eq!(written + open, nodes);
        prop_assert_eq!(nodes, priced);
        let booked: MicroUsd = history.state.jobs.values().map(|job| job.cost.total).sum();
        prop_assert_eq!(booked + history.state.unattributed.total, written);
        let months = history.state.jobs.values().flat_map(|job| job.cost_by_month.values());
        let bill = history.lines.iter().map(|line| AttributedLine { line: line.into(), actor: None }).collect();
        let losses = history.state.jobs.values().flat_map(|job| &job.losses);
        let bill: Vec<AttributedLine> = losses.fold(bill, |bill, loss| lose(bill, *loss));
        for job in history.state.jobs.values() {
            for category in Category::ALL {
                let mine = bill.iter().map(|line| &line.line).filter(|line| line.job == Some(job.id));
                let amount: MicroUsd = mine.filter(|line| line.category == category).map(|line| line.amount).sum();
                prop_assert_eq!(job.cost.by_category.get(&category).copied().unwrap_or_default(), amount, "{}", category);
            }
        }
        prop_assert_eq!(months.chain(history.state.unattributed_by_month.values()).copied().sum::<MicroUsd>(), written);
    }
}

#[test]
fn work_since_the_last_checkpoint_is_lost_with_its_server_and_no_other() {
    let mut history = History::new();
    let second = |history: &mut History, steps: &[Step]| {
        steps.iter().for_each(|step| history.run(step));
        history.now = history.now + Millis::from_secs(1);
    };
    let advance = Step::Advance { node: 0 };
    second(&mut history, &[Step::Rent { price: 3_600_000_000, cpus: 1 }, advance.clone(), advance.clone(), advance]);
    second(&mut history, &[Step::StartWorker { job: 0, node: 0 }, Step::Group { job: 0 }]);
    second(&mut history, &[Step::Save { job: 0 }]);
    second(&mut history, &[Step::EndWorker { pick: 0 }]);
    second(&mut history, &[Step::StartWorker { job: 0, node: 0 }, Step::Group { job: 0 }]);
    second(&mut history, &[Step::Group { job: 0 }]);
    let cost = &history.state.jobs[&JobId::new(1)].cost;
    let dollars = |category| cost.by_category.get(&category).map_or(0.0, |amount| amount.as_dollars());
    // A dollar a second: one was saved, one was not, one had no worker, and one is the new server's.
    assert_eq!((dollars(Category::Busy), dollars(Category::Lost)), (2.0, 1.0));
}

#[test]
fn a_replayed_journal_gives_the_same_state() {
    let records = [
        Record::ClusterCreated { cluster: "c".to_owned(), at: Millis::ZERO },
        Record::JoinTokenMade { node: NodeId::new(1), secret_hash: "ab".to_owned(), expires_at: Millis::from_secs(1) },
    ];
    let state = ClusterState::replay(&records, Vec::new()).unwrap();
    assert_eq!(state.cluster, "c");
    assert!(state.tokens.contains_key(&NodeId::new(1)));
    assert_eq!(state.next_node(0), NodeId::new(1));
    let used = Record::JoinTokenUsed { node: NodeId::new(1), at: Millis::ZERO };
    let state = ClusterState::replay(&[&records[..], &[used]].concat(), Vec::new()).unwrap();
    assert!(state.tokens.is_empty(), "a token is used once");
}

#[test]
fn a_record_about_nothing_is_an_error_not_a_panic() {
    let record = Record::WorkerEnded {
        job: JobId::new(9),
        worker: WorkerId::new(9),
        node: NodeId::new(9),
        at: Millis::ZERO,
        why: String::new(),
    };
    assert!(ClusterState::replay(&[record], Vec::new()).is_err());
}
