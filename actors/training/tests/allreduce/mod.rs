//! `strategy: allreduce`: the parameter server's bytes without a parameter server, and no step lost with any worker.

use neap_runtime::wire::training::{Every, Length, Param, Part, Strategy};
use neap_runtime::wire::worker::{ACCURACY, EpochFinished, EvalMetrics, FailureKind, WorkerReport};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::cluster::Cluster;
use crate::{checkpoint, failure, undisturbed};

fn all_reduce() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.launch.strategy = Strategy::AllReduce;
    cluster
}

const EPOCHS: u32 = 30;
const STEPS: u64 = 720;

/// Longer, and without checkpoints: whatever is gone on from was in some worker's memory.
fn long(cluster: &mut Cluster) {
    cluster.launch.length = Length::Epochs(EPOCHS);
    cluster.launch.checkpoint_every = Every::Never;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_workers_gives_the_bytes_of_the_parameter_server() {
    let served = undisturbed(|_| {}).await;
    for count in [1, 2, 3, 4, 8] {
        let mut cluster = all_reduce();
        let carriers = cluster.start_workers(count);
        let lead = count / 2;
        cluster.regroup(&carriers, lead, None).await;
        let (epochs, finished) = cluster.await_end(lead).await;
        assert!(cluster.model() == served, "{count} workers");
        assert!(epochs.iter().all(|epoch| epoch.samples == 1_500));
        assert_eq!((epochs.len(), finished.steps), (3, 72));
        cluster.stop(lead, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lead_costs_no_committed_step_and_no_report_of_an_epoch() {
    let served = undisturbed(long).await;
    let mut cluster = all_reduce();
    long(&mut cluster);
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 0, None).await;
    cluster.await_step(0, 30).await;
    cluster.kill(0).await;
    cluster.await_report(1, |report| matches!(report, WorkerReport::PeerLost { .. }).then_some(())).await;
    cluster.regroup(&[1, 2], 2, None).await;
    let (mut first, mut epochs) = (None, Vec::<EpochFinished>::new());
    let finished = cluster
        .await_report(2, |report| match report {
            WorkerReport::Progress(progress) => {
                first.get_or_insert(progress.step);
                None
            }
            WorkerReport::EpochFinished(epoch) => {
                epochs.push(epoch.clone());
                None
            }
            WorkerReport::Finished(finished) => Some(finished.clone()),
            _ => None,
        })
        .await;
    assert!(first > Some(30), "{first:?}");
    // The epoch that the lost lead may not have told of is told, and every one after it.
    let told: Vec<u32> = epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(told, (told[0]..EPOCHS).collect::<Vec<_>>());
    assert!(u64::from(told[0]) * 24 <= first.unwrap(), "{told:?} {first:?}");
    assert_eq!(finished.steps, STEPS);
    assert!(cluster.model() == served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_joins_gets_the_state_from_another_and_goes_on_alone() {
    let served = undisturbed(long).await;
    let mut cluster = all_reduce();
    long(&mut cluster);
    let first = cluster.start_worker();
    cluster.regroup(&[first], first, None).await;
    cluster.await_step(first, 30).await;
    let second = cluster.start_worker();
    cluster.regroup(&[first, second], second, None).await;
    cluster.await_step(second, 60).await;
    cluster.kill(first).await;
    cluster.regroup(&[second], second, None).await;
    cluster.await_end(second).await;
    assert!(cluster.model() == served);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_who_has_the_state_the_lead_goes_on_from_the_checkpoint() {
    let often = |cluster: &mut Cluster| {
        cluster.launch.length = Length::Steps(150);
        cluster.launch.checkpoint_every = Every::Steps(30);
    };
    let served = undisturbed(often).await;
    let mut cluster = all_reduce();
    often(&mut cluster);
    let carriers = cluster.start_workers(2);
    cluster.regroup(&carriers, 0, None).await;
    let saved = cluster.await_report(0, checkpoint).await;
    cluster.kill(0).await;
    cluster.kill(1).await;
    let others = cluster.start_workers(3);
    cluster.regroup(&others, others[1], Some(saved)).await;
    cluster.await_end(others[1]).await;
    assert!(cluster.model() == served);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_history_of_losses_and_joins_leaves_the_same_bytes() {
    let served = undisturbed(long).await;
    for seed in 0..4 {
        let mut cluster = all_reduce();
        long(&mut cluster);
        disturb(&mut cluster, seed).await;
        assert!(cluster.model() == served, "seed {seed}");
    }
}

/// Workers are lost and join, and the lead changes, most often right after the first step of a membership.
async fn disturb(cluster: &mut Cluster, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = move |bound: usize| rng.next_u32() as usize % bound;
    let mut carriers = cluster.start_workers(3);
    let mut lead = carriers[0];
    cluster.regroup(&carriers, lead, None).await;
    for _ in 0..8 {
        let mut reports = 1 + usize::from(below(4) == 0);
        let progress = |report: &WorkerReport| match report {
            WorkerReport::Progress(progress) => {
                reports -= 1;
                (reports == 0 || progress.step == STEPS).then_some(progress.step)
            }
            _ => None,
        };
        if cluster.await_report(lead, progress).await == STEPS {
            break;
        }
        if carriers.len() > 1 && below(2) == 0 {
            let lost = carriers.remove(below(carriers.len()));
            cluster.kill(lost).await;
        }
        if carriers.len() < 5 && below(2) == 0 {
            let at = below(carriers.len() + 1);
            carriers.insert(at, cluster.start_worker());
        }
        if !carriers.contains(&lead) || below(4) == 0 {
            lead = carriers[below(carriers.len())];
        }
        cluster.regroup(&carriers, lead, None).await;
    }
    let (epochs, finished) = cluster.await_end(lead).await;
    assert!(epochs.iter().all(|epoch| epoch.samples == 1_500));
    assert_eq!(finished.steps, STEPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn around_a_ring_the_samples_are_the_same_and_the_result_nearly_so() {
    let mut told = Vec::new();
    for strict in [true, false] {
        let mut cluster = all_reduce();
        cluster.launch.strict = strict;
        let mut carriers = cluster.start_workers(3);
        cluster.regroup(&carriers, 0, None).await;
        cluster.await_step(0, 10).await;
        carriers.push(cluster.start_worker());
        cluster.regroup(&carriers, 0, None).await;
        let (epochs, finished) = cluster.await_end(0).await;
        let digests: Vec<_> = epochs.iter().map(|epoch| epoch.sample_digest).collect();
        // The first epoch may end while step 10 is waited for; the last one is always told.
        told.push((digests.last().copied(), finished.train_loss, finished.eval.unwrap()));
    }
    let [(strict, loss, eval), (ring, ring_loss, ring_eval)] = &told[..] else { panic!("two trainings") };
    assert!(strict.is_some());
    assert_eq!(strict, ring);
    assert!((loss - ring_loss).abs() < 0.01, "{loss} {ring_loss}");
    assert!((accuracy(eval) - accuracy(ring_eval)).abs() < 0.02);
}

fn accuracy(eval: &EvalMetrics) -> f64 {
    eval.metric(ACCURACY).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_data_under_the_same_path_ends_the_job() {
    let mut cluster = all_reduce();
    let first = cluster.start_worker();
    cluster.launch.train_data.part = Part::Rows(1, 1_501);
    let other = cluster.start_worker();
    cluster.regroup(&[first, other], first, None).await;
    let message = failure(&mut cluster, first, FailureKind::Invalid).await;
    assert!(message.contains("other training data"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_not_finite_stops_the_job_with_the_words_of_the_parameter_server() {
    let mut texts = Vec::new();
    for (strategy, count) in [(Strategy::ParameterServer, 1), (Strategy::AllReduce, 3)] {
        let mut cluster = Cluster::new();
        cluster.launch.strategy = strategy;
        cluster.launch.params.retain(|(name, _)| name != "lr");
        let params =
            [("lr", Param::Float(30.0)), ("momentum", Param::Float(0.99)), ("weight_decay", Param::Float(30.0))];
        cluster.launch.params.extend(params.map(|(name, value)| (name.to_owned(), value)));
        let carriers = cluster.start_workers(count);
        cluster.regroup(&carriers, 0, None).await;
        texts.push(failure(&mut cluster, 0, FailureKind::User).await);
    }
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].contains("was not made"), "{}", texts[0]);
}
