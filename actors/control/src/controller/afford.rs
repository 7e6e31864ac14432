//! What of a plan the budgets can pay for. A job that has not started gets at least what it starts with, or nothing: half a
//! gang would only cost.

use std::collections::BTreeMap;

use neap_scheduler::model::{JobId, MicroUsd, MicroUsdPerHour, Millis, NodeId};
use neap_scheduler::policy::{Action, Plan};
use neap_scheduler::pricing::budget::{
    BudgetCommand, BudgetError, Budgets, LimitKind, Month, Refusal, ReservationId, Scope, ScopePath,
};
use neap_scheduler::spec::ServerPlacement;

use super::Controller;
use crate::clock;

/// Budgets as they would be after a part of a plan.
struct Trial {
    budgets: Budgets,
    last: u64,
    now: Millis,
}

impl Trial {
    fn reserve(
        &mut self,
        path: &ScopePath,
        granted: MicroUsd,
        rate: MicroUsdPerHour,
    ) -> Result<ReservationId, Refusal> {
        self.last += 1;
        let id = ReservationId(self.last);
        let command = BudgetCommand::Reserve { id, path: path.clone(), granted, rate };
        match self.budgets.execute(&command, self.now) {
            Err(BudgetError::Refused(why)) => Err(why),
            // A number that is free cannot be in conflict with another.
            _ => Ok(id),
        }
    }

    fn release(&mut self, id: ReservationId) {
        // What was reserved above is known.
        let _ = self.budgets.execute(&BudgetCommand::Release { id }, self.now);
    }
}

impl Controller {
    /// The plan without the nodes that the budgets cannot carry. Jobs are served in the order of the plan, so that those
    /// which share a budget do not count on the same money.
    pub(super) fn within_budgets(&mut self, plan: Plan) -> Plan {
        let mut refused = BTreeMap::new();
        let mut affordable = BTreeMap::new();
        let asked = self.asked(&plan);
        if !asked.is_empty() {
            let mut trial =
                Trial { budgets: self.live.money.budgets.clone(), last: self.live.money.last, now: clock::now() };
            for (job, prices) in asked {
                let (granted, refusal) = self.try_out(&mut trial, job, &prices);
                affordable.insert(job, granted);
                refused.extend(refusal.map(|refusal| (job, refusal)));
            }
        }
        let mut keep = |action: &Action| {
            let (Action::Acquire { job, .. } | Action::Start { job, .. }) = action else { return true };
            match affordable.get_mut(job) {
                Some(None) => false,
                Some(Some(left)) if self.fresh_price(action).is_some() => {
                    let one = *left > 0;
                    *left = left.saturating_sub(1);
                    one
                }
                _ => true,
            }
        };
        let actions = plan.actions.iter().filter(|action| keep(action)).cloned().collect();
        self.live.money.refused = refused;
        Plan { actions, ..plan }
    }

    /// The prices of the nodes that each job would pay for from now on, jobs in the order of the plan.
    fn asked(&self, plan: &Plan) -> Vec<(JobId, Vec<MicroUsdPerHour>)> {
        let mut asked: Vec<(JobId, Vec<MicroUsdPerHour>)> = Vec::new();
        for (job, price) in plan.actions.iter().filter_map(|action| self.fresh_price(action)) {
            match asked.iter_mut().find(|(of, _)| *of == job) {
                Some((_, prices)) => prices.push(price),
                None => asked.push((job, vec![price])),
            }
        }
        asked
    }

    /// The price of a node that an action makes a job pay from now on, where a budget limits the job.
    fn fresh_price(&self, action: &Action) -> Option<(JobId, MicroUsdPerHour)> {
        let (Action::Acquire { job, .. } | Action::Start { job, .. }) = action else { return None };
        if !self.live.money.budgets.is_limited(&self.path_of(*job)) {
            return None;
        }
        let price = match action {
            Action::Acquire { offer, .. } => {
                self.parts.provider.offers(&[]).into_iter().find(|one| one.name == *offer)?.price
            }
            Action::Start { node, .. } => {
                let pays = self.live.money.held.contains_key(&(*job, *node));
                self.state.nodes.get(node).filter(|_| !pays)?.price
            }
            Action::Retire { .. } | Action::Release { .. } => return None,
        };
        Some((*job, price))
    }

    /// How many of these nodes, in this order, can be paid beside those the job has, and why not more; `None` where they
    /// are too few to be of use. What is granted stays set aside in `trial`.
    fn try_out(&self, trial: &mut Trial, job: JobId, prices: &[MicroUsdPerHour]) -> (Option<usize>, Option<Refusal>) {
        let path = self.path_of(job);
        let mut granted = Vec::new();
        let mut refusal = None;
        for &rate in prices {
            match trial.reserve(&path, self.worst_case(rate), rate) {
                Ok(id) => granted.push(id),
                Err(why) => {
                    refusal = Some(why);
                    break;
                }
            }
        }
        if granted.len() >= self.needed(job) {
            return (Some(granted.len()), refusal);
        }
        granted.into_iter().for_each(|id| trial.release(id));
        (None, refusal)
    }

    /// How many more nodes a job must be able to pay for this plan to be of use: the rest of what it starts with.
    fn needed(&self, job: JobId) -> usize {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| !job.has_members()) else { return 0 };
        let least = entry.spec.workers.min + u32::from(entry.spec.train.server == ServerPlacement::Separate);
        let pays = self.live.money.held.keys().filter(|(of, _)| *of == job).count();
        (least as usize).saturating_sub(pays)
    }

    /// Sets money aside for a node that is about to be rented or used; what was checked for the whole plan is there.
    pub(super) fn set_aside(&mut self, job: JobId, node: NodeId, price: MicroUsdPerHour) -> bool {
        let now = clock::now();
        let spent = self.state.spent_on(job, node, now);
        match self.extend(job, node, price, spent, now) {
            None => true,
            Some(refusal) => {
                self.live.money.refused.insert(job, refusal);
                false
            }
        }
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
