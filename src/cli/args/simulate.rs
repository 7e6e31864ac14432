//! What there is to type after `neap simulate`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use neap_scheduler::model::MicroUsd;

/// `neap simulate`.
#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// Simulate a trace under a policy; the word `run` may be left out.
    Run(SimulateArgs),
    /// Simulate a trace under two policies and show what changes, job by job.
    Diff(DiffArgs),
    /// Decide the rounds of a control plane again (rounds.jsonl in its home folder); the plans must be the same.
    Replay(ReplayArgs),
    /// A trace with everything after it; [`read`](super::read) puts `run` before it.
    #[command(external_subcommand)]
    Trace(Vec<OsString>),
}

/// A trace and the cluster that it runs on.
#[derive(Debug, Args)]
pub struct WorldArgs {
    /// A table of jobs: Philly, openb (Alibaba 2023), Shockwave, Sia or Pollux; its first line says which. Or what a
    /// control plane recorded: rounds.jsonl, or its home folder.
    pub trace: PathBuf,
    /// Nodes of the cluster [default: 16].
    #[arg(long)]
    pub nodes: Option<usize>,
    /// Accelerators of each node; a job of more takes several nodes [default: 4].
    #[arg(long)]
    pub gpus_per_node: Option<u32>,
    /// What a node costs in dollars per hour.
    #[arg(long, default_value = "1")]
    pub price: MicroUsd,
    /// The nodes by type, as in aws:6x4,rtx:3x8 for 6 nodes of 4 GPUs and 3 of 8; or an openb table of nodes [default for
    /// Sia and Pollux: aws:6x4,rtx:3x8,dgx-ext:2x8].
    #[arg(long, value_name = "TYPES|FILE", conflicts_with_all = ["nodes", "gpus_per_node"])]
    pub cluster: Option<String>,
    /// For Sia and Pollux: the folder with apps.csv, throughput.csv and statistical_efficiency.csv.
    #[arg(long, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
    /// Only this virtual cluster of a Philly table.
    #[arg(long, value_name = "NAME")]
    pub virtual_cluster: Option<String>,
    /// This trace of a Sia or Pollux table, which holds several [default: the first by name].
    #[arg(long, value_name = "NAME")]
    pub trace_name: Option<String>,
    /// Only the first jobs of the table.
    #[arg(long, value_name = "JOBS")]
    pub limit: Option<usize>,
    /// Let policies know how long each job really runs; without it, of such jobs they know nothing.
    #[arg(long)]
    pub exact_estimates: bool,
    /// Decide at multiples of this many seconds; 0 decides after every event [default: 0; 60 for Sia and Pollux].
    #[arg(long)]
    pub round_seconds: Option<u64>,
    /// The seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also draw it: one HTML file with figures, which needs nothing from elsewhere.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

/// `neap simulate run`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The trace.
    #[command(flatten)]
    pub world: WorldArgs,
    /// The policy: fifo, backfill, fair_share, priority, goodput or turnaround; for Sia and Pollux goodput, fifo or least_service.
    #[arg(long, default_value = "fifo")]
    pub policy: String,
}

/// `neap simulate diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The trace.
    #[command(flatten)]
    pub world: WorldArgs,
    /// The two policies: the one before, and the other one.
    #[arg(long, required = true)]
    pub policy: Vec<String>,
}

/// `neap simulate replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The file of rounds, or the control plane's home folder.
    pub file: PathBuf,
}
