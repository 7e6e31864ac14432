//! Why a job runs where it runs, in one sentence each.

use std::fmt;

use crate::model::Millis;

/// Why a [`super::Decision`] was made. `explain` and the console show its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No later start on demand would meet the deadline.
    LastMoment,
    /// The deadline is so near that another loss of spot would cost the slack that is left.
    TooNearToLeave,
    /// The policy knows nothing but on-demand.
    OnDemandAlways,
    /// Spot is there and cheaper.
    SpotIsThere,
    /// The spot instance still runs; leaving it would pay a restart for nothing.
    SpotStillRuns,
    /// Spot is not there, and on demand is not needed yet.
    SlackAllowsWaiting {
        /// Time that may pass without progress before on-demand is the only way.
        slack: Millis,
    },
    /// Progress is behind the straight line from the start to the deadline.
    BehindUniformProgress,
    /// On demand is held until progress is ahead of the line again.
    CatchingUp,
    /// The expected cost to the end is lowest on spot in this zone.
    SpotCostsLeast,
    /// The expected cost to the end is lowest on demand: the spot seen so far would not do the work in time.
    OnDemandCostsLeast,
    /// The expected cost to the end is lowest without an instance now: spot is expected back soon enough.
    WaitingCostsLeast {
        /// Time that may pass without progress before on-demand is the only way.
        slack: Millis,
    },
    /// A plan made beforehand says so.
    Planned,
    /// On demand is held; a probe shows whether spot is there, and for how long it has been.
    ProbingForTheWayBack,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastMoment => f.write_str("no later start on demand would meet the deadline"),
            Self::TooNearToLeave => f.write_str("too near to the deadline to pay for another restart"),
            Self::OnDemandAlways => f.write_str("asked for on-demand only"),
            Self::SpotIsThere => f.write_str("spot is there and cheaper"),
            Self::SpotStillRuns => f.write_str("the spot instance still runs"),
            Self::SlackAllowsWaiting { slack } => write!(f, "no spot now, and {slack} may pass before it must start"),
            Self::BehindUniformProgress => f.write_str("no spot now, and progress is behind the line to the deadline"),
            Self::CatchingUp => f.write_str("on demand until progress is ahead of the line to the deadline"),
            Self::SpotCostsLeast => f.write_str("the expected cost to the end is lowest on spot here"),
            Self::OnDemandCostsLeast => f.write_str("the expected cost to the end is lowest on demand"),
            Self::WaitingCostsLeast { slack } => {
                write!(f, "waiting for spot costs least, and {slack} may pass before it must start")
            }
            Self::Planned => f.write_str("the plan says so"),
            Self::ProbingForTheWayBack => f.write_str("on demand, and looking for spot that lasts"),
        }
    }
}
