//! Reasons in sentences, for people. No decision is made here.

use std::fmt;

use super::plan::{AcquireReason, KeepReason, ReleaseReason, RetireReason, StartReason, WaitReason};
use super::rule::Preemption;
use crate::model::{MicroUsdPerHour, Millis};

impl fmt::Display for AcquireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gang { price } => write!(f, "the job cannot start without it; {price}"),
            Self::Growth { price } => write!(f, "the job has fewer workers than its target; {price}"),
            Self::PaysOff { price, sooner, without, with } => {
                write!(f, "the job ends {sooner} sooner and costs {with} instead of {without}; {price}")
            }
            Self::Deadline { price, late } => write!(f, "the deadline would be missed by {late} without it; {price}"),
            Self::Cheaper { price, saved, moving } => {
                write!(f, "a worker moves to it: saves {saved} until the job ends, moving costs {moving}; {price}")
            }
        }
    }
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gang => "all workers the job starts with have a node",
            Self::Growth => "the job has fewer workers than its target, and this node is free",
        })
    }
}

impl fmt::Display for RetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notice { .. } => f.write_str("the provider takes the node back"),
            Self::Drain => f.write_str("the node is drained"),
            Self::JobEnding => f.write_str("the job is ending"),
            Self::Surplus => f.write_str("the job has more workers than its target"),
            Self::AwaitsSpot => f.write_str("waiting for spot costs less than going on, and the deadline allows it"),
            Self::Preempted(Preemption { by, lost, gained }) => {
                write!(f, "gives way to {by}: work worth {lost} is lost, waiting worth {gained} is saved")
            }
            Self::Moves { to, saved, moving } => {
                write!(f, "moves to {to}: saves {saved} until the job ends, moving costs {moving}")
            }
        }
    }
}

impl fmt::Display for ReleaseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { idle, cost } => write!(f, "idle for {idle}, which cost {cost}"),
            Self::NotNeeded => f.write_str("no job needs it any more"),
            Self::Noticed => f.write_str("the provider takes it back, and its work has moved"),
            Self::Unreachable => f.write_str("it does not answer, and its work has moved"),
        }
    }
}

impl KeepReason {
    /// The reason in a sentence, seen at `now`.
    pub fn text(&self, now: Millis) -> String {
        match self {
            Self::Carries(jobs) => {
                let jobs: Vec<_> = jobs.iter().map(ToString::to_string).collect();
                format!("carries {}", jobs.join(", "))
            }
            Self::ComingFor(job) => format!("on its way for {job}"),
            Self::GangOf(job) => format!("waits for the rest of the workers {job} starts with"),
            Self::IdleUntil(until) => format!("idle; released in {} unless work comes", until.since(now)),
            Self::BreakEven { until, again } => format!(
                "idle; released in {} unless work comes: until then keeping it costs less than the {again} of renting it again",
                until.since(now)
            ),
            Self::Leaving => "its work is moving away".to_owned(),
            Self::Silent => "does not answer; its lease still runs".to_owned(),
        }
    }
}

impl WaitReason {
    /// Why, and what would change it, seen at `now`.
    pub fn text(&self, now: Millis, max_price: Option<MicroUsdPerHour>) -> String {
        match self {
            Self::Behind(job) => format!("{job} came first; starts once that job has its nodes or ends"),
            Self::Booting { coming } => format!("{coming} node(s) are on their way"),
            Self::Gang { have, need, coming } => format!(
                "has nodes for {have} of the {need} workers it starts with, {coming} on their way; \
                 a smaller workers.min would start it sooner"
            ),
            Self::NoCapacity { offer } => {
                format!("every fitting offer is sold out (cheapest: {offer}); starts when a node is free or offered")
            }
            Self::Infeasible(why) => match max_price {
                Some(price) => format!("{why} (max_price is {price})"),
                None => why.clone(),
            },
            Self::ForSpot { slack } => format!(
                "waits for spot, which costs least: {slack} may pass before it must run on demand; `market: on_demand` \
                 would start it now"
            ),
            Self::MakingWay { jobs, lost } => {
                let jobs: Vec<_> = jobs.iter().map(ToString::to_string).collect();
                format!("{} of lower priority make way; work worth {lost} is lost with it", jobs.join(", "))
            }
            Self::Rate { have, need, limit } => format!(
                "its {need} workers cost more than its limit of {limit}, which pays {have}; a higher limit or a smaller \
                 workers.min would start it"
            ),
            Self::Backoff { until } => format!("its workers crashed; next try in {}", until.since(now)),
        }
    }
}
