//! What a job may cost and when it should be done.

use super::super::code::Code;
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field};
use super::super::job::{BudgetSpec, CheckpointEvery, CheckpointSpec, Deadline, Objective, OnExceed};
use super::super::layout;
use super::super::quantity;
use crate::model::{MicroUsd, MicroUsdPerHour, MoneyParseError};

const PRIORITY: u16 = 500;
const PRIORITY_MAX: u64 = 1_000;

/// `budget.warn_at` where the job says nothing, in thousandths.
const WARN_AT_PERMILLE: u16 = 800;

/// `priority`: the middle where the job says nothing.
pub(super) fn priority(job: &Block<'_>, faults: &mut Faults) -> Result<u16, Reported> {
    let priority =
        job.optional(faults, "priority", |field, faults| field.whole_or(faults, 0..=PRIORITY_MAX, Code::Priority))?;
    Ok(priority.map_or(PRIORITY, |priority| u16::try_from(priority).expect("at most PRIORITY_MAX")))
}

/// `max_price`, read from its digits and never through a float.
pub(super) fn max_price(field: &Field<'_>, faults: &mut Faults) -> Result<MicroUsdPerHour, Reported> {
    let help = "give dollars per hour for one node, as in `max_price: 0.35`";
    Ok(MicroUsdPerHour::new(dollars(field, Code::MaxPrice, "price", help, faults)?.get()))
}

/// `budget`.
pub(super) fn budget(field: &Field<'_>, faults: &mut Faults) -> Result<BudgetSpec, Reported> {
    let block = field.block(faults, &layout::BUDGET)?;
    let max_cost = block.optional(faults, "max_cost", |field, faults| {
        dollars(field, Code::Budget, "budget", "give dollars for the whole job, as in `max_cost: 120`", faults)
    });
    let max_rate = block.optional(faults, "max_cost_per_hour", |field, faults| {
        let help = "give dollars per hour for all nodes together, as in `max_cost_per_hour: 4.5`";
        dollars(field, Code::Budget, "budget", help, faults).map(|usd| MicroUsdPerHour::new(usd.get()))
    });
    let warn_at = block.optional(faults, "warn_at", warn_at);
    let on_exceed = block.optional(faults, "on_exceed", |field, faults| {
        let built = [("checkpoint_and_stop", OnExceed::CheckpointAndStop), ("stop", OnExceed::Stop)];
        field.choice(faults, Code::Budget, &built, &["pause"])
    });
    if let Some(refused) = block.refused.first() {
        return Err(refused.reported);
    }
    let limits = (max_cost?, max_rate?);
    if limits == (None, None) {
        let help = "add `max_cost: 120`, or `max_cost_per_hour: 4.5`";
        return Err(field.fault(faults, Code::Budget, "the budget has no limit", help));
    }
    Ok(BudgetSpec {
        max_cost: limits.0,
        max_cost_per_hour: limits.1,
        warn_at_permille: warn_at?.unwrap_or(WARN_AT_PERMILLE),
        on_exceed: on_exceed?.unwrap_or(OnExceed::CheckpointAndStop),
    })
}

/// A job that saves when its money ends must be able to save.
pub(super) fn budget_can_save(
    job: &Block<'_>,
    budget: Option<&BudgetSpec>,
    checkpoint: Option<&CheckpointSpec>,
    faults: &mut Faults,
) -> Result<(), Reported> {
    let (Some(budget), Some(checkpoint)) = (budget, checkpoint) else { return Ok(()) };
    let never = checkpoint.every == CheckpointEvery::Never && !checkpoint.on_notice;
    if !never || budget.on_exceed == OnExceed::Stop {
        return Ok(());
    }
    let field = job.get("budget").expect("a budget was read");
    let field = field.get("on_exceed").unwrap_or(field);
    let message = "`checkpoint_and_stop` needs checkpoints, and the job writes none";
    Err(field.fault(faults, Code::OverBudgetNeedsCheckpoint, message, "use `on_exceed: stop`, or write checkpoints"))
}

/// `deadline`: a time from submission, or a moment.
pub(super) fn deadline(field: &Field<'_>, faults: &mut Faults) -> Result<Deadline, Reported> {
    let help = "write a time from submission, such as `18h`, or a moment, such as `2027-01-31T18:00:00Z`";
    let (text, _) = field.scalar(faults, "a deadline", help)?;
    if let Some(time) = quantity::duration(text) {
        return Ok(Deadline::After(time));
    }
    match quantity::moment(text) {
        Some(moment) => Ok(Deadline::At(moment)),
        None => Err(field.fault(faults, Code::Deadline, format!("{} is not a deadline", field.found()), help)),
    }
}

/// `objective`: the least money where the job says nothing.
pub(super) fn objective(job: &Block<'_>, faults: &mut Faults) -> Result<Objective, Reported> {
    let objective = job.optional(faults, "objective", |field, faults| {
        let built =
            [("min_cost", Objective::MinCost), ("min_time", Objective::MinTime), ("balanced", Objective::Balanced)];
        field.choice(faults, Code::BadValue, &built, &[])
    })?;
    Ok(objective.unwrap_or_default())
}

/// A part from 0 to 1, as thousandths.
fn warn_at(field: &Field<'_>, faults: &mut Faults) -> Result<u16, Reported> {
    let help = "write a part of the budget from 0 to 1, as in `warn_at: 0.8`";
    let (text, quoted) = field.scalar(faults, "a part of the budget", help)?;
    match text.parse::<f64>() {
        Ok(part) if !quoted && (0.0..=1.0).contains(&part) => Ok((part * 1_000.0).round() as u16),
        _ => Err(field.fault(faults, Code::Budget, format!("{} is not a part from 0 to 1", field.found()), help)),
    }
}

/// An amount above 0.
fn dollars(field: &Field<'_>, code: Code, what: &str, help: &str, faults: &mut Faults) -> Result<MicroUsd, Reported> {
    let (text, _) = field.scalar(faults, &format!("a {what}"), help)?;
    let (message, help) = match text.parse::<MicroUsd>() {
        Ok(amount) if amount > MicroUsd::ZERO => return Ok(amount),
        Ok(_) => (format!("the {what} must be above 0"), help),
        Err(MoneyParseError::NotAnAmount(_)) if text.starts_with('-') && text.parse::<f64>().is_ok() => {
            (format!("the {what} must be above 0"), help)
        }
        Err(MoneyParseError::NotAnAmount(_)) => (format!("{} is not an amount in dollars", field.found()), help),
        Err(MoneyParseError::TooFine(_)) => {
            (format!("{} has more than six decimals", field.found()), "the smallest one is 0.000001")
        }
        Err(MoneyParseError::TooLarge(_)) => (format!("{} is more than can be counted", field.found()), help),
    };
    Err(field.fault(faults, code, message, help))
}
