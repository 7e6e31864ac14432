//! How far each logical shard has come, and what that allows: pure arithmetic.

use neap_scheduler::elastic::ShardRange;
use neap_scheduler::spec::Consistency;

use crate::schedule::Schedule;

/// Whole epochs that a logical shard may be ahead of the slowest one, whatever the job says: every epoch that some shard is
/// in keeps its order of samples and its ledger in memory. At the limit the faster ones wait.
pub const EPOCHS_AHEAD_MAX: u64 = 4;

/// The steps that each logical shard has had applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clocks {
    steps: Vec<u64>,
    total: u64,
    bound: u64,
}

/// A step of some logical shards: what a worker computes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The step, counted from 0 since the start of the job.
    pub step: u64,
    /// The shards; all of them have come this far.
    pub shards: ShardRange,
}

/// What a worker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Compute this.
    Compute(Order),
    /// Nothing before slower shards have come further.
    Wait,
    /// Nothing any more.
    Done,
}

impl Clocks {
    /// No shard has begun.
    pub fn new(schedule: &Schedule, consistency: Consistency) -> Self {
        let steps = vec![0; schedule.logical_shards as usize];
        Self { steps, total: schedule.steps_total(), bound: bound(schedule, consistency) }
    }

    /// The clocks of a checkpoint; `None` where they are not of this job.
    pub fn restore(schedule: &Schedule, consistency: Consistency, steps: Vec<u64>) -> Option<Self> {
        let fresh = Self::new(schedule, consistency);
        let fits = steps.len() == fresh.steps.len() && steps.iter().all(|&step| step <= fresh.total);
        fits.then_some(Self { steps, ..fresh })
    }

    /// The steps of each shard.
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// How far all shards have come.
    pub fn slowest(&self) -> u64 {
        self.steps.iter().copied().min().unwrap_or(self.total)
    }

    /// How far some shard has come.
    pub fn fastest(&self) -> u64 {
        self.steps.iter().copied().max().unwrap_or(self.total)
    }

    /// Whether every shard has all steps.
    pub fn is_finished(&self) -> bool {
        self.slowest() >= self.total
    }

    /// What whoever carries `block` does next: the next step of those of its shards that are furthest behind, the first ones
    /// in a row. So shards that come together from different workers go on together once they are level.
    pub fn next(&self, block: ShardRange) -> Next {
        let own = self.steps.get(block.start as usize..block.end as usize).unwrap_or_default();
        let Some(&step) = own.iter().min().filter(|&&step| step < self.total) else { return Next::Done };
        if step - self.slowest() > self.bound {
            return Next::Wait;
        }
        let level = |&&clock: &&u64| clock == step;
        let ahead = own.iter().take_while(|clock| !level(clock)).count() as u32;
        let together = own[ahead as usize..].iter().take_while(level).count() as u32;
        let start = block.start + ahead;
        Next::Compute(Order { step, shards: ShardRange { start, end: start + together } })
    }

    /// The shards of an order have come a step further.
    ///
    /// # Panics
    ///
    /// If one of them is not where the order says: an order is carried out once.
    pub fn advance(&mut self, order: Order) {
        for clock in &mut self.steps[order.shards.start as usize..order.shards.end as usize] {
            assert_eq!(*clock, order.step, "an order is carried out once");
            *clock += 1;
        }
    }
}

/// How many steps a shard that begins another one may be ahead of the slowest.
fn bound(schedule: &Schedule, consistency: Consistency) -> u64 {
    let memory = schedule.steps_per_epoch().saturating_mul(EPOCHS_AHEAD_MAX);
    match consistency {
        Consistency::Sync => 0,
        Consistency::Ssp { staleness } => memory.min(u64::from(staleness)),
        Consistency::Async => memory,
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::spec::TrainLength;

    use super::*;

    fn clocks(steps: &[u64], consistency: Consistency) -> Clocks {
        let schedule = Schedule {
            samples: 60,
            global_batch: 6,
            logical_shards: steps.len() as u32,
            micro_batch: 6,
            shuffle_seed: None,
            length: TrainLength::Steps(100),
        };
        Clocks::restore(&schedule, consistency, steps.to_vec()).unwrap()
    }

    fn compute(step: u64, start: u32, end: u32) -> Next {
        Next::Compute(Order { step, shards: ShardRange { start, end } })
    }

    #[test]
    fn the_shards_furthest_behind_go_first_until_all_are_level() {
        let mut clocks = clocks(&[9, 7, 7, 9, 7, 0], Consistency::Async);
        let block = ShardRange { start: 0, end: 5 };
        let mut orders = Vec::new();
        while let Next::Compute(order) = clocks.next(block) {
            if order.step == 10 {
                break;
            }
            orders.push((order.step, order.shards.start, order.shards.end));
            clocks.advance(order);
        }
        assert_eq!(orders, [(7, 1, 3), (7, 4, 5), (8, 1, 3), (8, 4, 5), (9, 0, 5)]);
    }

    #[test]
    fn who_is_too_far_ahead_waits_for_the_slowest() {
        let ssp = |staleness| Consistency::Ssp { staleness };
        let block = ShardRange { start: 0, end: 1 };
        assert_eq!(clocks(&[4, 0], ssp(4)).next(block), compute(4, 0, 1));
        assert_eq!(clocks(&[5, 0], ssp(4)).next(block), Next::Wait);
        assert_eq!(clocks(&[0, 0], ssp(0)).next(block), compute(0, 0, 1));
        assert_eq!(clocks(&[1, 0], ssp(0)).next(block), Next::Wait);
        assert_eq!(clocks(&[100, 0], Consistency::Async).next(block), Next::Done);
    }

    #[test]
    fn nobody_is_ahead_by_more_epochs_than_memory_is_kept_for() {
        let block = ShardRange { start: 0, end: 1 };
        for consistency in [Consistency::Async, Consistency::Ssp { staleness: 10_000 }] {
            // An epoch has ten steps.
            assert_eq!(clocks(&[40, 0], consistency).next(block), compute(40, 0, 1));
            assert_eq!(clocks(&[41, 0], consistency).next(block), Next::Wait);
        }
    }

    #[test]
    fn clocks_of_another_job_are_refused() {
        let schedule = Schedule {
            samples: 60,
            global_batch: 6,
            logical_shards: 2,
            micro_batch: 6,
            shuffle_seed: None,
            length: TrainLength::Steps(100),
        };
        assert!(Clocks::restore(&schedule, Consistency::Async, vec![0, 0, 0]).is_none());
        assert!(Clocks::restore(&schedule, Consistency::Async, vec![0, 101]).is_none());
    }
}
