//! The commands about money.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use neap_scheduler::model::{Market, MicroUsd, MicroUsdPerHour};

/// `neap cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    /// Only this job.
    #[arg(long, conflicts_with_all = ["by", "stretch", "resolution", "csv", "json"])]
    pub job: Option<String>,
    /// What the bill is cut by [default: job].
    #[arg(long, value_enum)]
    pub by: Option<CostBy>,
    /// A stretch of time (UTC): today, yesterday, "this month", "last month", 7d, 2026-11, 2026-11-01..2026-11-07.
    #[arg(long = "for", value_name = "TIME")]
    pub stretch: Option<String>,
    /// Cut the time as well.
    #[arg(long, value_enum)]
    pub resolution: Option<Resolution>,
    /// As `-o csv`, with exact amounts.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// As `-o json`.
    #[arg(long)]
    pub json: bool,
}

impl CostArgs {
    /// Whether the whole bill is asked for, as it stands.
    pub fn is_plain(&self) -> bool {
        self.by.is_none() && self.stretch.is_none() && self.resolution.is_none() && !self.csv && !self.json
    }
}

/// What a bill is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CostBy {
    /// Whom the jobs belong to.
    Project,
    /// The jobs.
    Job,
    /// Their actors.
    Actor,
    /// The nodes.
    Node,
    /// What the time was spent on.
    Category,
}

impl CostBy {
    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Job => "job",
            Self::Actor => "actor",
            Self::Node => "node",
            Self::Category => "category",
        }
    }
}

/// How finely time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resolution {
    /// Hours (UTC).
    #[value(name = "h")]
    Hour,
    /// Days (UTC).
    #[value(name = "d")]
    Day,
}

impl Resolution {
    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// `neap forecast`.
#[derive(Debug, Args)]
pub struct ForecastArgs {
    /// How far to look, as in 7d [default: to the end of the month, UTC].
    #[arg(long, value_parser = super::duration, value_name = "TIME")]
    pub horizon: Option<Duration>,
}

/// `neap offers`.
#[derive(Debug, Args)]
pub struct OffersArgs {
    /// Only with this accelerator, as in H100.
    #[arg(long, value_name = "MODEL")]
    pub gpu: Option<String>,
    /// Only on this market.
    #[arg(long, value_enum)]
    pub market: Option<MarketName>,
    /// What the dated price book says, with its sources; needs no control plane.
    #[arg(long)]
    pub book: bool,
}

/// A market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum MarketName {
    /// Rented until released.
    OnDemand,
    /// Cheaper, and may be taken back.
    Spot,
}

impl MarketName {
    /// The market.
    pub fn market(self) -> Market {
        match self {
            Self::OnDemand => Market::OnDemand,
            Self::Spot => Market::Spot,
        }
    }
}

/// `neap budget`.
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// Limit what the organisation or a project may spend. Limits that are not named stay as they are.
    Set(SetBudgetArgs),
    /// Show a budget, what is spent of it and what is set aside.
    Show(BudgetArgs),
    /// List the budgets that are set, and those of jobs that have not ended.
    List,
}

/// `neap budget show`.
#[derive(Debug, Args)]
pub struct BudgetArgs {
    /// `organisation`, `project/NAME`, or a job's name or id.
    pub scope: String,
}

/// `neap budget set`.
#[derive(Debug, Args)]
pub struct SetBudgetArgs {
    /// `organisation` or `project/NAME`.
    pub scope: String,
    /// What may be spent, in dollars.
    #[arg(long, value_name = "USD", value_parser = dollars, allow_hyphen_values = true)]
    pub max_cost: Option<MicroUsd>,
    /// The time that `--max-cost` is for: everything, or each calendar month (UTC).
    #[arg(long, value_enum, default_value_t = Period::Total, requires = "max_cost")]
    pub period: Period,
    /// What all nodes together may cost, in dollars an hour.
    #[arg(long, value_name = "USD", value_parser = dollars_per_hour, allow_hyphen_values = true)]
    pub max_cost_per_hour: Option<MicroUsdPerHour>,
    /// The part of a limit whose spending is worth a warning, from 0 to 1 [default: 0.8].
    #[arg(long, value_name = "PART", value_parser = part, allow_hyphen_values = true)]
    pub warn_at: Option<f64>,
    /// Remove the whole budget.
    #[arg(long, conflicts_with_all = ["max_cost", "max_cost_per_hour", "warn_at"])]
    pub none: bool,
}

/// What a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Period {
    /// Everything, for ever.
    Total,
    /// Each calendar month.
    Month,
}

fn dollars(text: &str) -> Result<MicroUsd, String> {
    match text.parse::<MicroUsd>() {
        Ok(amount) if amount > MicroUsd::ZERO => Ok(amount),
        Ok(_) => Err("error[E021] a budget must be above 0; `--none` removes one".to_owned()),
        Err(error) => Err(format!("error[E021] {error}")),
    }
}

fn dollars_per_hour(text: &str) -> Result<MicroUsdPerHour, String> {
    dollars(text).map(|amount| MicroUsdPerHour::new(amount.get()))
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err(format!("error[E021] {text} is not a part from 0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_that_are_no_budget_are_refused_with_their_code() {
        for text in ["0", "0.0", "-5", "NaN", "inf", "1e9", "5$", "", "0.0000001", "99999999999999999999"] {
            let refused = dollars(text).unwrap_err();
            assert!(refused.starts_with("error[E021] "), "{text}: {refused}");
        }
        assert_eq!(dollars("500"), Ok(MicroUsd::new(500_000_000)));
        assert!(part("NaN").is_err() && part("1.01").is_err() && part("-0.1").is_err());
        assert_eq!(part("0.8"), Ok(0.8));
    }
}
