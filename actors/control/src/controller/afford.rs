//! What of a plan the budgets can pay for. A job that has not started gets at least what it starts with, or nothing: half a
//! gang would only cost.

use std::collections::{BTreeMap, BTreeSet};

use neap_scheduler::model::{JobId, MicroUsd, MicroUsdPerHour, Millis, NodeId};
use neap_scheduler::policy::{Action, KeepReason, Plan, ReleaseReason};
use neap_scheduler::pricing::budget::{
    BudgetCommand, BudgetError, Budgets, LimitKind, Month, Refusal, ReservationId, Scope, ScopePath,
};

use super::Controller;
use crate::clock;

/// Budgets as they would be after a part of a plan.
struct Trial {
    budgets: Budgets,
    last: u64,
    now: Millis,
}

impl Trial {
    fn reserve(&mut self, path: &ScopePath, granted: MicroUsd, rate: MicroUsdPerHour) -> Result<(), Refusal> {
        self.last += 1;
        let id = ReservationId(self.last);
        let command = BudgetCommand::Reserve { id, path: path.clone(), granted, rate };
        match self.budgets.execute(&command, self.now) {
            Err(BudgetError::Refused(why)) => Err(why),
            // A number that is free cannot be in conflict with another.
            _ => Ok(()),
        }
    }

    fn release(&mut self, id: ReservationId) {
        // What is held is known.
        let _ = self.budgets.execute(&BudgetCommand::Release { id }, self.now);
    }
}

/// A node that a job would pay for from now on.
struct Ask {
    price: MicroUsdPerHour,
    /// Which, where it is there already.
    node: Option<NodeId>,
}

impl Controller {
    /// The plan without the nodes that the budgets cannot carry. Jobs are served in the order of the plan, so that those
    /// which share a budget do not count on the same money.
    pub(super) fn within_budgets(&mut self, plan: Plan) -> Plan {
        let asked = self.asked(&plan);
        let mut refused = BTreeMap::new();
        let mut affordable = BTreeMap::new();
        let mut trial = Trial { budgets: Budgets::default(), last: self.live.money.last, now: clock::now() };
        if !asked.is_empty() {
            trial.budgets = self.live.money.budgets.clone();
        }
        for (job, asks) in asked {
            let (granted, refusal) = self.try_out(&mut trial, job, &asks);
            affordable.insert(job, granted);
            refused.extend(refusal.map(|refusal| (job, refusal)));
        }
        self.live.money.refused = refused;
        let mut keep = |action: &Action| {
            let (Action::Acquire { job, .. } | Action::Start { job, .. }) = action else { return true };
            match affordable.get_mut(job) {
                Some(None) => false,
                Some(Some(left)) if self.ask_of(action).is_some() => {
                    let one = *left > 0;
                    *left = left.saturating_sub(1);
                    one
                }
                _ => true,
            }
        };
        let (kept, dropped): (Vec<Action>, Vec<Action>) = plan.actions.iter().cloned().partition(|action| keep(action));
        self.without_waiting_nodes(Plan { actions: kept, ..plan }, &dropped)
    }

    /// The plan that does not keep idle nodes for jobs whose budget does not carry them: somebody else pays for the wait.
    fn without_waiting_nodes(&self, mut plan: Plan, dropped: &[Action]) -> Plan {
        let start = |action: &Action| match action {
            Action::Start { node, .. } => Some(*node),
            _ => None,
        };
        let short = |reason: &KeepReason| match reason {
            KeepReason::GangOf(job) => self.live.money.refused.contains_key(job),
            _ => false,
        };
        let waiting = plan.kept.iter().filter(|(_, reason)| short(reason)).map(|(node, _)| *node);
        let nodes: BTreeSet<NodeId> = dropped.iter().filter_map(start).chain(waiting).collect();
        let now = clock::now();
        for node in nodes {
            let Some(since) = self.live.idle_since.get(&node).copied() else { continue };
            let price = self.state.nodes.get(&node).map(|node| node.price).unwrap_or_default();
            let (idle, idle_release) = (now.since(since), Millis::new(self.parts.config.idle_release_ms));
            if idle < idle_release {
                plan.kept.insert(node, KeepReason::IdleUntil(since + idle_release));
                continue;
            }
            plan.kept.remove(&node);
            let reason = ReleaseReason::Idle { idle, cost: price.cost_of(idle) };
            plan.actions.push(Action::Release { node, reason });
        }
        plan
    }

    /// The nodes that each job would pay for from now on, jobs in the order of the plan.
    fn asked(&self, plan: &Plan) -> Vec<(JobId, Vec<Ask>)> {
        let mut asked: Vec<(JobId, Vec<Ask>)> = Vec::new();
        for (job, ask) in plan.actions.iter().filter_map(|action| self.ask_of(action)) {
            match asked.iter_mut().find(|(of, _)| *of == job) {
                Some((_, asks)) => asks.push(ask),
                None => asked.push((job, vec![ask])),
            }
        }
        asked
    }

    /// The node that an action makes a job pay for from now on, where a budget limits the job.
    fn ask_of(&self, action: &Action) -> Option<(JobId, Ask)> {
        let (Action::Acquire { job, .. } | Action::Start { job, .. }) = action else { return None };
        if !self.live.money.budgets.is_limited(&self.path_of(*job)) {
            return None;
        }
        let ask = match action {
            Action::Acquire { offer, .. } => {
                let offers = self.parts.provider.offers(&[]);
                Ask { price: offers.into_iter().find(|one| one.name == *offer)?.price, node: None }
            }
            Action::Start { node, .. } => {
                let pays = self.live.money.held.contains_key(&(*job, *node));
                Ask { price: self.state.nodes.get(node).filter(|_| !pays)?.price, node: Some(*node) }
            }
            Action::Retire { .. } | Action::Release { .. } => return None,
        };
        Some((*job, ask))
    }

    /// How many of these nodes, in this order, can be paid beside those the job has, and why not more; `None` where they
    /// are too few to be of use. What is granted stays set aside in `trial`.
    fn try_out(&self, trial: &mut Trial, job: JobId, asks: &[Ask]) -> (Option<usize>, Option<Refusal>) {
        let (path, before) = (self.path_of(job), trial.budgets.clone());
        let mut refusal = None;
        let mut granted = 0;
        for ask in asks {
            let undo = trial.budgets.clone();
            let others = ask.node.map(|node| self.idle_payers(job, node)).unwrap_or_default();
            others.into_iter().for_each(|(_, id)| trial.release(id));
            match trial.reserve(&path, self.worst_case(ask.price), ask.price) {
                Ok(()) => granted += 1,
                Err(why) => {
                    (trial.budgets, refusal) = (undo, Some(why));
                    break;
                }
            }
        }
        if granted >= self.needed(job) {
            return (Some(granted), refusal);
        }
        trial.budgets = before;
        (None, refusal)
    }

    /// Who pays for a node only because it was rented for them, and stops to once `job` has a worker there.
    fn idle_payers(&self, job: JobId, node: NodeId) -> Vec<(JobId, ReservationId)> {
        let here = self.state.workers_on(node);
        let idle = |other: JobId| other != job && here.iter().all(|(of, _)| *of != other);
        let held = self.live.money.held.iter().filter(|((other, of), _)| *of == node && idle(*other));
        held.map(|((other, _), held)| (*other, held.id)).collect()
    }

    /// How many more nodes a job must be able to pay for this plan to be of use: the rest of what it starts with.
    fn needed(&self, job: JobId) -> usize {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| !job.has_members()) else { return 0 };
        let least = entry.spec.workers.min + u32::from(entry.spec.separate_server());
        let pays = self.live.money.held.keys().filter(|(of, _)| *of == job).count();
        (least as usize).saturating_sub(pays)
    }

    /// Sets money aside for a node that is about to be rented or used; what was checked for the whole plan is there.
    /// Whoever paid for an idle node does no longer.
    pub(super) fn set_aside(&mut self, job: JobId, node: NodeId, price: MicroUsdPerHour) -> bool {
        let now = clock::now();
        let before: Vec<JobId> = self.idle_payers(job, node).into_iter().map(|(payer, _)| payer).collect();
        before.iter().for_each(|payer| self.give_back(*payer, node, now));
        let Some(refusal) = self.extend(job, node, price, self.state.spent_on(job, node, now), now) else {
            return true;
        };
        for payer in before {
            self.extend(payer, node, price, self.state.spent_on(payer, node, now), now);
        }
        self.live.money.refused.insert(job, refusal);
        false
    }

    /// Why a budget did not carry what a job wanted in the last round, and what would.
    pub(crate) fn refused_text(&self, job: JobId) -> Option<String> {
        let refusal = self.live.money.refused.get(&job)?;
        let higher = match &refusal.scope {
            Scope::Job(_) | Scope::Sweep(_) => "a higher budget".to_owned(),
            shared => format!("a higher limit (`neap budget set {}`)", shared.id()),
        };
        let later = match refusal.kind {
            LimitKind::Month => format!(" or the end of {} (UTC)", Month::of(clock::now())),
            LimitKind::Total | LimitKind::Rate => String::new(),
        };
        Some(format!("{refusal}; {higher}{later} would start it"))
    }
}
