//! The commands about checkpoints.

use clap::{Args, Subcommand};

/// `neap checkpoint`.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// List the checkpoints of a job, the newest first.
    List(CheckpointsArgs),
    /// Read checkpoints whole and say which of them are damaged.
    Verify(VerifyArgs),
    /// Go on from a checkpoint of a job that has ended: a new job with the same file.
    Restore(RestoreArgs),
    /// Delete all but the newest checkpoints, and what unfinished ones left behind.
    Gc(GcArgs),
}

/// Whose checkpoints.
#[derive(Debug, Args)]
pub struct CheckpointsArgs {
    /// A job's name or id, or where checkpoints lie: a folder (with a `/` in it) or a URI such as s3://bucket/run/job-3.
    #[arg(value_name = "JOB|URI")]
    pub place: String,
}

/// `neap checkpoint verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Where they lie.
    #[command(flatten)]
    pub place: CheckpointsArgs,
    /// Only this one.
    pub name: Option<String>,
}

/// `neap checkpoint restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The job's name or id.
    pub job: String,
    /// The checkpoint after this step [default: the newest that is whole].
    #[arg(long, value_name = "STEP")]
    pub to: Option<u64>,
}

/// `neap checkpoint gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Where they lie.
    #[command(flatten)]
    pub place: CheckpointsArgs,
    /// How many stay; never fewer than 2, because the newest may turn out damaged.
    #[arg(long, default_value_t = 3)]
    pub keep: usize,
}
