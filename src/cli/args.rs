//! The command line as clap reads it.

mod checkpoint;
mod money;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use neap_runtime::workload::{
    AGENT_ARGUMENT, CONTROL_ARGUMENT, DEVICES_ARGUMENT, ENTRIES_ARGUMENT, MEASURE_ARGUMENT, WORKER_ARGUMENT,
};
use neap_scheduler::model::{CpuMillis, MemoryMib, NodeId};

mod simulate;

pub use checkpoint::{CheckpointCommand, CheckpointsArgs, GcArgs, RestoreArgs, VerifyArgs};

pub use simulate::{DiffArgs, ReplayArgs, SimulateArgs, SimulateCommand, WorldArgs};

pub use money::{
    BudgetArgs, BudgetCommand, CostArgs, CostBy, ForecastArgs, MarketName, OffersArgs, Period, Resolution,
    SetBudgetArgs,
};

/// Where the API listens unless told otherwise; only ever on loopback.
pub const HTTP_DEFAULT: &str = "127.0.0.1:7747";

/// Elastic compute for machine learning: rents nodes when work needs them, trains, gives them back.
#[derive(Debug, Parser)]
#[command(name = "neap", version, arg_required_else_help = true, disable_help_subcommand = true, max_term_width = 110)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Print results only, no remarks.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for even more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// No colours; so does the environment variable NO_COLOR.
    #[arg(long, global = true)]
    pub no_color: bool,
    /// The home folder of the control plane [default: ~/.neap].
    #[arg(long, global = true, env = "NEAP_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// How long to wait at most, as in 90s, 10m or 1h30m.
    #[arg(long, global = true, value_parser = duration, value_name = "TIME")]
    pub timeout: Option<Duration>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header line; lists only.
    Csv,
    /// Names or ids only, one a line.
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the control plane on this machine, in the background.
    Up(UpArgs),
    /// End the control plane and give its nodes back.
    Down(DownArgs),
    /// Run a job file and follow it to its end (Ctrl-C only detaches).
    #[command(alias = "apply")]
    Run(RunArgs),
    /// Say what a job will cost and when it will be done, before it runs.
    Plan(PlanArgs),
    /// Run recorded traces under a policy, compare two, or decide recorded rounds again.
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Check a job file offline and show everything that is wrong with it.
    Validate(FileArgs),
    /// List what can be trained, with its settings: the entries built in, or those of a program.
    Entries(EntriesArgs),
    /// List jobs.
    Ps(AllArgs),
    /// Show one job in full, or the control plane.
    Status(StatusArgs),
    /// Wait until a job has ended; the exit code says how.
    Wait(JobArgs),
    /// Print what a job's workers wrote.
    Logs(LogsArgs),
    /// Say why a job or node is as it is, or what a fault's code means.
    Explain(ExplainArgs),
    /// Stop a job, after a last checkpoint.
    #[command(alias = "cancel")]
    Stop(StopArgs),
    /// Show what was spent, on what.
    Cost(CostArgs),
    /// Say what will be spent, with its range, and what that means for the budgets.
    Forecast(ForecastArgs),
    /// List what could be rented now, with prices and how often such nodes were taken back.
    Offers(OffersArgs),
    /// Limit what the organisation and projects may spend.
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// Look at the checkpoints of a job, or go on from one.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Look at nodes, or take one back.
    #[command(subcommand)]
    Node(NodeCommand),
    /// List what this machine can compute on: its graphics cards, with their memory and use where they tell it.
    Devices,
    /// Print the JSON Schema of job files, for editors.
    Schema,
    /// Check this machine and the control plane, and say what to do about what is wrong.
    Doctor,
    /// Print the version.
    Version,
    /// The control plane itself, in the foreground (`neap up` starts it).
    #[command(hide = true, alias = CONTROL_ARGUMENT)]
    Control(ControlArgs),
    /// A node agent (a provider starts it).
    #[command(hide = true, alias = AGENT_ARGUMENT)]
    Agent(AgentArgs),
    /// A worker process (a node agent starts it).
    #[command(hide = true, alias = WORKER_ARGUMENT)]
    Worker,
    /// What this program can train, for whoever handles it as an artifact.
    #[command(hide = true, name = ENTRIES_ARGUMENT)]
    Describe,
    /// How fast this program trains the job on its standard input, for whoever handles it as an artifact.
    #[command(hide = true, name = MEASURE_ARGUMENT)]
    Measure,
    /// What this machine can compute on, for the node agent.
    #[command(hide = true, name = DEVICES_ARGUMENT)]
    Inventory(InventoryArgs),
}

/// What a node agent asks its child.
#[derive(Debug, Args)]
pub struct InventoryArgs {
    /// Only cards whose memory or use can be read, without asking wgpu.
    #[arg(long)]
    pub readings: bool,
}

/// Where the control plane listens and what it is configured with.
#[derive(Debug, Clone, Args)]
pub struct ControlArgs {
    /// Where the API listens, on loopback; port 0 takes any that is free.
    #[arg(long, value_name = "ADDR", default_value = HTTP_DEFAULT, value_parser = loopback)]
    pub http: SocketAddr,
    /// What the local provider offers [default: config.yaml in the home folder, or a default for this machine].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `neap up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// What is handed on to the control plane.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `neap down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Leave the nodes and their jobs at work; the next `neap up` takes them over.
    #[arg(long)]
    pub keep_nodes: bool,
}

/// A job file.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The job file; `-` reads standard input.
    pub file: PathBuf,
}

/// `neap entries`.
#[derive(Debug, Args)]
pub struct EntriesArgs {
    /// A program that links Neap: its path, or `blake3:…` of one that the control plane has.
    pub artifact: Option<String>,
}

/// `neap plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The job file; `-` reads standard input.
    pub file: PathBuf,
    /// A recording of a spot market (one JSON object a zone and line) to draw the future from.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Draws the futures; the same seed gives the same plan for the same measured speed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Exit with 8 if the P95 breaks the budget or the deadline.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Plan a spot job without checkpoints even if it would hardly ever be done.
    #[arg(long)]
    pub allow_unsafe_spot: bool,
}

/// `neap run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job file; `-` reads standard input.
    pub file: PathBuf,
    /// Return as soon as the job is accepted.
    #[arg(short, long, conflicts_with = "wait")]
    pub detach: bool,
    /// Wait for the end without showing progress, for scripts; the exit code is the job's.
    #[arg(long)]
    pub wait: bool,
    /// Start without asking. Without a terminal nobody is asked: the plan is shown and the job starts.
    #[arg(short, long)]
    pub yes: bool,
    /// Start even if the job will most likely cost more than its budget, or hardly ever be done.
    #[arg(long, visible_alias = "allow-unsafe-spot")]
    pub force: bool,
}

/// Which of the list.
#[derive(Debug, Args)]
pub struct AllArgs {
    /// Also those that have ended.
    #[arg(short, long)]
    pub all: bool,
}

/// A job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Its name or id.
    pub job: String,
}

/// `neap status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// A job's name or id; the control plane without it.
    pub job: Option<String>,
    /// Say with the exit code how the job stands.
    #[arg(long, requires = "job")]
    pub exit_code: bool,
}

/// `neap logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The job's name or id.
    pub job: String,
    /// Go on until the job has ended.
    #[arg(short, long)]
    pub follow: bool,
}

/// `neap stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The job's name or id.
    pub job: String,
    /// At once, without a last checkpoint.
    #[arg(long)]
    pub now: bool,
}

/// `neap explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A job's name or id, a node's id, or a code such as E044.
    #[arg(value_name = "JOB|NODE|CODE")]
    pub subject: String,
}

/// `neap node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes.
    List(AllArgs),
    /// Take a spot node back, as its provider would.
    Preempt(PreemptArgs),
}

/// `neap node preempt`.
#[derive(Debug, Args)]
pub struct PreemptArgs {
    /// The node's id.
    pub node: NodeId,
    /// How long it has left, as in 5s or 2m; 0s is a loss without a notice.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub notice: Duration,
}

/// `neap agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The node this is.
    #[arg(long)]
    pub node: NodeId,
    /// Where the control plane takes agents.
    #[arg(long, value_name = "ADDR")]
    pub control: SocketAddr,
    /// Where the control plane takes join tokens. The token itself comes in NEAP_JOIN_TOKEN.
    #[arg(long, value_name = "ADDR")]
    pub join: SocketAddr,
    /// Processor time the node has, in thousandths of a core.
    #[arg(long, value_parser = cpu_millis)]
    pub cpu_millis: CpuMillis,
    /// Memory the node has, in MiB.
    #[arg(long, value_parser = memory_mib)]
    pub memory_mib: MemoryMib,
    /// Where the node keeps its files.
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
}

/// Reads a command line that starts with the program's name.
///
/// # Errors
///
/// Whatever clap has to say, `--help` included.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let cli = Cli::try_parse_from(&args)?;
    let Command::Simulate(SimulateCommand::Trace(rest)) = &cli.command else { return Ok(cli) };
    args.insert(args.len() - rest.len(), "run".into());
    Cli::try_parse_from(args)
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr =
        text.parse().map_err(|_| "not an address with a port; one looks like 127.0.0.1:7747".to_owned())?;
    if addr.ip().is_loopback() { Ok(addr) } else { Err("the API is served on loopback only".to_owned()) }
}

/// Reads `90s`, `10m`, `1h30m`, `500ms`, `2d`; a day has 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a length of time; one looks like 90s, 10m or 1h30m");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

fn cpu_millis(text: &str) -> Result<CpuMillis, std::num::ParseIntError> {
    text.parse().map(CpuMillis)
}

fn memory_mib(text: &str) -> Result<MemoryMib, std::num::ParseIntError> {
    text.parse().map(MemoryMib)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_trace_is_run_also_without_the_word() {
        for line in [
            "simulate run t.csv --seed 3 -o json",
            "simulate t.csv --seed 3 -o json",
            "-o json simulate t.csv --seed 3",
        ] {
            let cli = read(format!("neap {line}").split(' ').map(OsString::from)).unwrap();
            assert_eq!(cli.global.output, Format::Json, "{line}");
            let Command::Simulate(SimulateCommand::Run(args)) = cli.command else {
                panic!("{line}: {:?}", cli.command)
            };
            assert_eq!((args.world.trace, args.world.seed), (PathBuf::from("t.csv"), 3), "{line}");
        }
    }

    #[test]
    fn lengths_of_time_are_read() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5_400), ("2d", 172_800), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "5", "-5s", "s", "5 bananas"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_api_stays_on_loopback() {
        assert!(loopback("127.0.0.1:0").is_ok());
        assert!(loopback("[::1]:7747").is_ok());
        assert!(loopback("0.0.0.0:7747").is_err());
    }
}
