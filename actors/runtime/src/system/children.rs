//! The supervision tree below the actors of one worker: a pure state machine. Events come in, effects go out; nothing
//! here runs anything, reads a clock or draws a number.
//!
//! ```text
//!            add                started                 worker lost, in-place restart failed
//!   (none) ──────▶ Starting ──────────▶ Up ──────────────────────────────┐
//!                     ▲    │ stop        │ stop                            ▼
//!                     │    └──────▶ Stopping ──ended──▶ (gone)         Waiting ──pause over──▶ Starting
//!                     └──────────────────────────────────────────────────┘
//!      Up ──its worker has to go──▶ Leaving ──left──▶ Starting, elsewhere and at once
//! ```
//!
//! A child that panics or gives an error stays `Up`: it is started again where it is, with the messages that wait for it.
//! Only its node's end moves it. Each start has its own incarnation; what is said of an older one has no effect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neap_scheduler::model::{Millis, WorkerId};

use super::placement::{Load, Placement, Seat, place};
use super::supervision::{History, OnFailure, Verdict};

/// Whose child an actor is: the main function's, or that of an actor of this worker, by its number here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Parent {
    Main,
    Actor(u64),
}

/// What a child is started with, as far as supervision goes.
#[derive(Debug, Clone)]
pub(crate) struct ChildSpec {
    pub(crate) parent: Parent,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) placement: Placement,
    pub(crate) on_failure: OnFailure,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    /// It stopped by itself or because it was told to.
    Stopped,
    /// It failed and is not started again.
    Failed(String),
    /// The worker that supervised it is gone, and with it what is known about it.
    SupervisorLost,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => f.pad("stopped"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::SupervisorLost => f.pad("the worker of its supervisor is gone"),
        }
    }
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start this incarnation there.
    Start { child: u64, incarnation: u32, worker: WorkerId },
    /// It runs there.
    Up { child: u64, incarnation: u32, worker: WorkerId },
    /// It runs nowhere for now.
    Down { child: u64 },
    /// Say [`Children::retry`] after the pause.
    RetryAfter { child: u64, incarnation: u32, pause: Duration },
    /// Tell it to end.
    Stop { child: u64, incarnation: u32, worker: WorkerId },
    /// Tell it that a node has to go; unless it stays, it leaves its worker, to start elsewhere.
    Leave { child: u64, incarnation: u32, worker: WorkerId, stays: bool },
    /// It is gone for good.
    Exited { child: u64, parent: Parent, name: String, exit: Exit },
    /// Its parent fails.
    Escalate { parent: Parent, why: String },
}

/// What a child that failed has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Directive {
    /// Start again where it is, after the pause in milliseconds.
    Restart(u64),
    /// End.
    End,
}

/// Why a start came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartFailure {
    /// The actor does not start: an error of its own.
    Refused(String),
    /// Its worker did not answer.
    Unreachable(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting {
        worker: WorkerId,
        stop: bool,
    },
    Up(WorkerId),
    /// Up, and told to leave.
    Leaving(WorkerId),
    Waiting,
    Stopping(WorkerId),
}

#[derive(Debug)]
struct Child {
    spec: ChildSpec,
    state: State,
    incarnation: u32,
    /// Whether it has ever been up: a first start that fails is its parent's to know, not a failure to be repaired.
    was_up: bool,
    /// Whether this incarnation was told that a node has to go.
    noticed: bool,
    history: History,
}

impl Child {
    fn worker(&self) -> Option<WorkerId> {
        match self.state {
            State::Starting { worker, .. } | State::Up(worker) | State::Leaving(worker) | State::Stopping(worker) => {
                Some(worker)
            }
            State::Waiting => None,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Children {
    children: BTreeMap<u64, Child>,
    last: u64,
    /// Parents that were told to fail and have not yet; each is told once.
    failing: BTreeSet<Parent>,
}

/// Why there is no such child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AddError {
    NameTaken,
    NoWorker,
}

/// The moment, and a number drawn evenly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Millis,
    pub(crate) draw: u32,
}

impl Children {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.children.len()
    }

    /// A new child on one of the workers.
    pub(crate) fn add(&mut self, spec: ChildSpec, seats: &[Seat]) -> Result<(u64, Vec<Effect>), AddError> {
        if self.children.values().any(|child| child.spec.parent == spec.parent && child.spec.name == spec.name) {
            return Err(AddError::NameTaken);
        }
        let worker = place(spec.placement, &self.loads(seats, &spec.kind)).ok_or(AddError::NoWorker)?;
        self.last += 1;
        let state = State::Starting { worker, stop: false };
        let child = Child { spec, state, incarnation: 1, was_up: false, noticed: false, history: History::default() };
        self.children.insert(self.last, child);
        Ok((self.last, vec![Effect::Start { child: self.last, incarnation: 1, worker }]))
    }

    /// A start succeeded.
    pub(crate) fn started(&mut self, id: u64, incarnation: u32) -> Vec<Effect> {
        let Some(child) = self.current(id, incarnation) else { return Vec::new() };
        let State::Starting { worker, stop } = child.state else { return Vec::new() };
        child.was_up = true;
        if stop {
            child.state = State::Stopping(worker);
            return vec![Effect::Stop { child: id, incarnation, worker }];
        }
        child.state = State::Up(worker);
        vec![Effect::Up { child: id, incarnation, worker }]
    }

    /// A start failed.
    pub(crate) fn start_failed(
        &mut self,
        id: u64,
        incarnation: u32,
        failure: StartFailure,
        moment: Moment,
    ) -> Vec<Effect> {
        let Some(child) = self.current(id, incarnation) else { return Vec::new() };
        match (child.state, failure) {
            (State::Starting { stop: true, .. }, _) => self.gone(id, Exit::Stopped),
            (State::Starting { .. }, StartFailure::Refused(why)) if !child.was_up => self.gone(id, Exit::Failed(why)),
            (State::Starting { .. }, StartFailure::Refused(why) | StartFailure::Unreachable(why)) => {
                self.moves(id, why, moment)
            }
            _ => Vec::new(),
        }
    }

    /// A child that runs has failed; where it goes on, it does so in its place.
    pub(crate) fn failed(&mut self, id: u64, incarnation: u32, why: &str, moment: Moment) -> (Directive, Vec<Effect>) {
        let Some(child) = self.current(id, incarnation) else { return (Directive::End, Vec::new()) };
        if !matches!(child.state, State::Up(_) | State::Leaving(_) | State::Starting { stop: false, .. }) {
            return (Directive::End, Vec::new());
        }
        match child.history.failed(child.spec.on_failure, moment.now, moment.draw) {
            Verdict::Again(pause) => (Directive::Restart(pause.as_millis() as u64), Vec::new()),
            Verdict::End => (Directive::End, self.gone(id, Exit::Failed(why.to_owned()))),
            Verdict::Escalate => (Directive::End, self.escalates(id, why)),
        }
    }

    /// A child has ended.
    pub(crate) fn ended(&mut self, id: u64, incarnation: u32, exit: Exit) -> Vec<Effect> {
        match self.current(id, incarnation).map(|child| child.state) {
            // It counts as lost already, and another incarnation is on its way.
            Some(State::Waiting) | None => Vec::new(),
            Some(_) => self.gone(id, exit),
        }
    }

    /// A worker is gone, with whatever ran there.
    pub(crate) fn worker_lost(&mut self, worker: WorkerId, moment: Moment) -> Vec<Effect> {
        let there: Vec<u64> =
            self.children.iter().filter(|(_, child)| child.worker() == Some(worker)).map(|(id, _)| *id).collect();
        let mut effects = Vec::new();
        for id in there {
            let Some(child) = self.children.get(&id) else { continue };
            effects.extend(match child.state {
                State::Stopping(_) | State::Starting { stop: true, .. } => self.gone(id, Exit::Stopped),
                _ => self.moves(id, format!("{worker} was lost"), moment),
            });
        }
        effects
    }

    /// The pause before a start is over.
    pub(crate) fn retry(&mut self, id: u64, incarnation: u32, seats: &[Seat]) -> Vec<Effect> {
        match self.current(id, incarnation).map(|child| child.state) {
            Some(State::Waiting) => self.again(id, seats).unwrap_or_else(|| {
                self.gone(id, Exit::Failed("the worker or node it has to run on is gone".to_owned()))
            }),
            _ => Vec::new(),
        }
    }

    /// A worker has to go: what runs there leaves for one of the seats, where it can.
    pub(crate) fn worker_leaves(&mut self, worker: WorkerId, seats: &[Seat]) -> Vec<Effect> {
        let there: Vec<u64> = self.up(|child| child.state == State::Up(worker));
        let mut effects = Vec::new();
        for id in there {
            let Some(child) = self.children.get(&id) else { continue };
            let stays = place(child.spec.placement, &self.loads(seats, &child.spec.kind)).is_none();
            effects.extend(self.notice(id, stays));
        }
        effects
    }

    /// The worker of this host has to go: what it supervises ends with it, wherever it runs.
    pub(crate) fn home_leaves(&mut self) -> Vec<Effect> {
        self.up(|child| matches!(child.state, State::Up(_))).into_iter().flat_map(|id| self.notice(id, true)).collect()
    }

    /// A child has left its worker. It starts elsewhere, and no failure counts.
    pub(crate) fn left(&mut self, id: u64, incarnation: u32, seats: &[Seat], moment: Moment) -> Vec<Effect> {
        match self.current(id, incarnation).map(|child| child.state) {
            Some(State::Leaving(_)) => self
                .again(id, seats)
                .unwrap_or_else(|| self.moves(id, "there is no worker for it any more".to_owned(), moment)),
            Some(State::Stopping(_)) => self.gone(id, Exit::Stopped),
            _ => Vec::new(),
        }
    }

    /// A child is to end.
    pub(crate) fn stop(&mut self, id: u64) -> Vec<Effect> {
        let Some(child) = self.children.get_mut(&id) else { return Vec::new() };
        let incarnation = child.incarnation;
        match child.state {
            State::Starting { worker, .. } => {
                child.state = State::Starting { worker, stop: true };
                Vec::new()
            }
            State::Up(worker) | State::Leaving(worker) => {
                child.state = State::Stopping(worker);
                vec![Effect::Stop { child: id, incarnation, worker }]
            }
            State::Waiting => self.gone(id, Exit::Stopped),
            State::Stopping(_) => Vec::new(),
        }
    }

    /// A parent has ended or begins anew: its children end.
    pub(crate) fn parent_gone(&mut self, parent: Parent) -> Vec<Effect> {
        self.failing.remove(&parent);
        self.of(parent).into_iter().flat_map(|id| self.stop(id)).collect()
    }

    /// The children of a parent.
    pub(crate) fn of(&self, parent: Parent) -> Vec<u64> {
        self.children.iter().filter(|(_, child)| child.spec.parent == parent).map(|(id, _)| *id).collect()
    }

    /// Children that were not told yet that a node has to go.
    fn up(&self, which: impl Fn(&Child) -> bool) -> Vec<u64> {
        self.children.iter().filter(|(_, child)| !child.noticed && which(child)).map(|(id, _)| *id).collect()
    }

    fn notice(&mut self, id: u64, stays: bool) -> Vec<Effect> {
        let Some(child) = self.children.get_mut(&id) else { return Vec::new() };
        let State::Up(worker) = child.state else { return Vec::new() };
        child.noticed = true;
        let leave = Effect::Leave { child: id, incarnation: child.incarnation, worker, stays };
        if stays {
            return vec![leave];
        }
        child.state = State::Leaving(worker);
        // Whoever looks for it waits for where it goes.
        vec![Effect::Down { child: id }, leave]
    }

    /// Another start, on one of the seats; `None` where none fits.
    fn again(&mut self, id: u64, seats: &[Seat]) -> Option<Vec<Effect>> {
        let child = self.children.get(&id)?;
        let worker = place(child.spec.placement, &self.loads(seats, &child.spec.kind))?;
        let child = self.children.get_mut(&id)?;
        child.incarnation += 1;
        child.noticed = false;
        child.state = State::Starting { worker, stop: false };
        Some(vec![Effect::Start { child: id, incarnation: child.incarnation, worker }])
    }

    fn current(&mut self, id: u64, incarnation: u32) -> Option<&mut Child> {
        self.children.get_mut(&id).filter(|child| child.incarnation == incarnation)
    }

    fn loads(&self, seats: &[Seat], kind: &str) -> Vec<Load> {
        let load = |&seat: &Seat| {
            let there = || self.children.values().filter(|child| child.worker() == Some(seat.worker));
            let of_kind = there().filter(|child| child.spec.kind == kind).count() as u32;
            Load { seat, actors: there().count() as u32, of_kind }
        };
        seats.iter().map(load).collect()
    }

    /// A child has lost its place: it gets another one after a pause, if it may.
    fn moves(&mut self, id: u64, why: String, moment: Moment) -> Vec<Effect> {
        let Some(child) = self.children.get_mut(&id) else { return Vec::new() };
        match child.history.failed(child.spec.on_failure, moment.now, moment.draw) {
            Verdict::Again(pause) => {
                child.state = State::Waiting;
                let incarnation = child.incarnation;
                vec![Effect::Down { child: id }, Effect::RetryAfter { child: id, incarnation, pause }]
            }
            Verdict::End => self.gone(id, Exit::Failed(why)),
            Verdict::Escalate => self.escalates(id, &why),
        }
    }

    fn gone(&mut self, id: u64, exit: Exit) -> Vec<Effect> {
        let Some(child) = self.children.remove(&id) else { return Vec::new() };
        vec![Effect::Exited { child: id, parent: child.spec.parent, name: child.spec.name, exit }]
    }

    fn escalates(&mut self, id: u64, why: &str) -> Vec<Effect> {
        let Some((parent, name)) = self.children.get(&id).map(|child| (child.spec.parent, child.spec.name.clone()))
        else {
            return Vec::new();
        };
        let mut effects = self.gone(id, Exit::Failed(why.to_owned()));
        if self.failing.insert(parent) {
            effects.push(Effect::Escalate { parent, why: format!("its child `{name}` failed for good: {why}") });
        }
        effects
    }
}

#[cfg(test)]
mod tests;
