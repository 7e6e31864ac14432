//! The command line: reads it, does what it says through the API, and shows the outcome.
//!
//! [`main`] is the way in. `args` is what there is to type, `exit` what a command can end with; every other module is
//! one group of commands. Commands hold no logic of their own about jobs, nodes or money: they ask and show.

pub mod args;

pub mod exit;

mod up;

mod run;

mod consent;

mod plan;

mod simulate;

mod report;

mod follow;

mod jobs;

mod checkpoint;

mod nodes;

mod devices;

mod cost;

mod budget;

mod forecast;

mod offers;

mod parts;

mod stretch;

mod explain;

mod validate;

mod entries;

mod doctor;

mod roles;

pub mod client;

mod faults;

mod output;

mod process;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::home::Home;
use crate::program::Program;

use args::{BudgetCommand, CheckpointCommand, Cli, Command, Format, NodeCommand, SimulateCommand};
use client::Client;
use exit::{CliError, Exit};
use output::{Output, harmless};

/// What every command is given.
struct Shell {
    /// What it is that runs the command: its entries and own actors.
    program: Program,
    home: Home,
    output: Output,
    timeout: Option<Duration>,
    /// The command line, starting with the program.
    typed: Vec<OsString>,
}

impl Shell {
    /// The command line as one would type it again.
    fn typed(&self) -> String {
        let words = self.typed.iter().skip(1).map(|word| word.to_string_lossy());
        let words: Vec<String> = ["neap".into()].into_iter().chain(words).map(|word| quoted(&word)).collect();
        words.join(" ")
    }

    fn client(&self) -> Result<Client, CliError> {
        let client = Client::find(&self.home)?;
        Ok(match self.timeout {
            Some(limit) => client.within(limit),
            None => client,
        })
    }
}

/// A word as a shell reads it back. A process cannot be given a word with a NUL in it.
fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

/// Runs one command line as `program`, `args` starting with the program's name, and gives the exit code of the process.
pub fn main(program: &Program, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    run(program, args).into()
}

/// Runs one command line as `program`.
pub(crate) fn run(program: &Program, args: impl IntoIterator<Item = OsString>) -> Exit {
    let typed: Vec<OsString> = args.into_iter().collect();
    let cli = match args::read(typed.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let output = Output::new(&cli.global);
    start_tracing(&cli, output);
    let done = Home::locate(cli.global.home.as_deref()).map_err(CliError::from).and_then(|home| {
        let shell = Shell { program: program.clone(), home, output, timeout: cli.global.timeout, typed };
        dispatch(&shell, cli.command)
    });
    match done {
        Ok(exit) => exit,
        Err(error) => {
            show(&error, output);
            error.exit()
        }
    }
}

fn dispatch(shell: &Shell, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Up(args) => up::up(shell, &args.control),
        Command::Down(args) => up::down(shell, &args),
        Command::Entries(args) => entries::entries(shell, args.artifact.as_deref()),
        Command::Run(args) => run::run(shell, &args),
        Command::Plan(args) => plan::plan(shell, &args),
        Command::Simulate(SimulateCommand::Run(args)) => simulate::run(shell, &args),
        Command::Simulate(SimulateCommand::Diff(args)) => simulate::diff(shell, &args),
        Command::Simulate(SimulateCommand::Replay(args)) => simulate::replay(shell, &args),
        // `args::read` has put `run` before it.
        Command::Simulate(SimulateCommand::Trace(_)) => Err(CliError::Usage("give one trace".to_owned())),
        Command::Validate(args) => validate::validate(shell, &args.file),
        Command::Ps(args) => jobs::list(shell, &args),
        Command::Status(args) => jobs::status(shell, &args),
        Command::Wait(args) => run::wait(shell, &args.job),
        Command::Logs(args) => jobs::logs(shell, &args),
        Command::Explain(args) => explain::explain(shell, &args.subject),
        Command::Stop(args) => jobs::stop(shell, &args),
        Command::Cost(args) if args.is_plain() => cost::cost(shell, args.job.as_deref()),
        Command::Cost(args) => parts::parts(shell, &args),
        Command::Forecast(args) => forecast::forecast(shell, &args),
        Command::Offers(args) => offers::offers(shell, &args),
        Command::Budget(BudgetCommand::Set(args)) => budget::set(shell, &args),
        Command::Budget(BudgetCommand::Show(args)) => budget::show(shell, &args.scope),
        Command::Budget(BudgetCommand::List) => budget::list(shell),
        Command::Checkpoint(CheckpointCommand::List(args)) => checkpoint::list(shell, &args),
        Command::Checkpoint(CheckpointCommand::Verify(args)) => checkpoint::verify(shell, &args),
        Command::Checkpoint(CheckpointCommand::Restore(args)) => checkpoint::restore(shell, &args),
        Command::Checkpoint(CheckpointCommand::Gc(args)) => checkpoint::gc(shell, &args),
        Command::Node(NodeCommand::List(args)) => nodes::list(shell, &args),
        Command::Node(NodeCommand::Preempt(args)) => nodes::preempt(shell, &args),
        Command::Devices => devices::list(shell),
        Command::Schema => validate::schema(shell),
        Command::Doctor => doctor::doctor(shell),
        Command::Version => version(shell),
        Command::Control(args) => roles::control(shell, &args),
        Command::Agent(args) => roles::agent(args),
        Command::Worker => roles::worker(&shell.program),
        Command::Describe => entries::describe(shell),
        Command::Measure => entries::measure(shell),
        Command::Inventory(args) => devices::inventory(shell, &args),
    }
}

fn version(shell: &Shell) -> Result<Exit, CliError> {
    let own = crate::http::body::VersionBody::own();
    shell.output.document(&own, &own.version, || format!("neap {}\n", own.version))?;
    Ok(Exit::Ok)
}

/// Diagnostics go to standard error: everything from a long-running role, next to nothing from a command, unless
/// `NEAP_LOG` (or `-v`) says otherwise.
fn start_tracing(cli: &Cli, output: Output) {
    let role = matches!(cli.command, Command::Control(_) | Command::Agent(_) | Command::Worker);
    let default = match (role, cli.global.verbose) {
        (_, 2..) => "debug",
        (true, _) | (_, 1) => "info",
        (false, 0) => "off",
    };
    let filter = EnvFilter::try_from_env("NEAP_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(output.color_err());
    // A program that runs several commands, or has a subscriber of its own, keeps the first one.
    let _ = subscriber.try_init();
}

/// An error on standard error for people; with `-o json` also as the one document on standard output.
fn show(error: &CliError, output: Output) {
    let (red, plain) = if output.color_err() { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    output.warn(&format!("{red}error:{plain} {}", harmless(&error.chain())));
    if let Some(help) = error.help() {
        output.warn(&format!("help: {}", harmless(&help)));
    }
    let shown_already = matches!(
        error,
        CliError::InvalidJob { .. }
            | CliError::Unhealthy { .. }
            | CliError::DamagedCheckpoints { .. }
            | CliError::Output(_)
    );
    if matches!(output.format, Format::Json | Format::Jsonl) && !shown_already {
        let document = serde_json::json!({ "error": error.detail() });
        let text = if output.format == Format::Json { format!("{document:#}\n") } else { format!("{document}\n") };
        if let Err(error) = output.text(&text) {
            output.warn(&error.chain());
        }
    }
}
