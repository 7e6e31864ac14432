//! A program that links Neap: what it adds to it, and how it plays the roles that it is started in.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use neap_runtime::system;
use neap_runtime::workload::{
    AGENT_ARGUMENT, CONTROL_ARGUMENT, DEVICES_ARGUMENT, ENTRIES_ARGUMENT, MEASURE_ARGUMENT, WORKER_ARGUMENT, Workloads,
};
use neap_training::Entries;

use crate::{cli, snapshots};

/// The arguments with which processes of Neap start a program in a role. No command of its own should be called so.
const ROLES: [&str; 6] =
    [WORKER_ARGUMENT, ENTRIES_ARGUMENT, MEASURE_ARGUMENT, DEVICES_ARGUMENT, AGENT_ARGUMENT, CONTROL_ARGUMENT];

/// What a program adds to Neap: entries to train, and own actors. Made from [`Entries`] where there are only those, and from
/// [`system::Program`] where there are only actors.
#[derive(Clone)]
pub struct Program {
    entries: Entries,
    actors: system::Program,
}

impl Program {
    /// A program with these entries.
    pub fn new(entries: Entries) -> Self {
        Self { entries, actors: system::Program::default() }
    }

    /// Adds own actors and main functions, for jobs of `kind: actors`.
    #[must_use]
    pub fn with_actors(self, actors: system::Program) -> Self {
        Self { actors, ..self }
    }

    /// What it can train.
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The main functions of its own actors.
    pub(crate) fn mains(&self) -> Vec<String> {
        self.actors.mains().map(str::to_owned).collect()
    }

    /// Everything that its worker processes run.
    pub(crate) fn workloads(&self) -> Workloads {
        Workloads::default()
            .with(neap_training::workload(self.entries.clone()))
            .with(system::workload::workload(self.actors.clone(), snapshots::open))
    }
}

impl From<Entries> for Program {
    fn from(entries: Entries) -> Self {
        Self::new(entries)
    }
}

/// Beside the entries built in.
impl From<system::Program> for Program {
    fn from(actors: system::Program) -> Self {
        Self::new(Entries::builtin()).with_actors(actors)
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.entries.infos().into_iter().map(|entry| entry.name).collect();
        f.debug_struct("Program").field("entries", &names).field("mains", &self.mains()).finish_non_exhaustive()
    }
}

/// Makes the program a whole `neap` of its own: every command and every role, with its entries beside the built-in ones.
///
/// Jobs that are run with it name an entry and need no `artifact`, because its nodes run the same program. The same program
/// can also be the artifact of a job that another `neap` runs.
///
/// ```no_run
/// # use neap::Entries;
/// fn main() -> std::process::ExitCode {
///     neap::main(Entries::builtin())
/// }
/// ```
pub fn main(program: impl Into<Program>) -> ExitCode {
    cli::main(&program.into(), std::env::args_os())
}

/// Makes the program an artifact: put it first in `main`. Where the program was started in a role of Neap (as a worker, or
/// to say what it can train), this plays the role and ends the process; otherwise it returns at once, and the program goes
/// on with what it is for.
///
/// ```no_run
/// # use neap::Entries;
/// neap::worker_main(Entries::builtin());
/// println!("started by hand");
/// ```
pub fn worker_main(program: impl Into<Program>) {
    if role().is_some() {
        std::process::exit(i32::from(cli::run(&program.into(), std::env::args_os()) as u8));
    }
}

/// The role in which this process was started, if it was.
pub(crate) fn role() -> Option<OsString> {
    std::env::args_os().nth(1).filter(|first| is_role(first))
}

fn is_role(argument: &OsStr) -> bool {
    ROLES.iter().any(|role| argument == *role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roles_are_roles() {
        assert!(is_role(OsStr::new("neap-worker")));
        for other in ["worker", "run", "neap", "neap-worker "] {
            assert!(!is_role(OsStr::new(other)), "{other}");
        }
    }
}
