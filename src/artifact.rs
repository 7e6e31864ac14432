//! Programs of one's own, looked at from outside before a job brings them along: is it a program for this machine, does it
//! link Neap, what can it do?
//!
//! The file is read first, and only what shows Neap's mark is run, once, to say what it has: a script, a system tool or a
//! program for another machine never is.

mod ask;

mod inspect;

use std::path::{Path, PathBuf};
use std::time::Duration;

use neap_runtime::wire::training::TrainLaunch;
use neap_scheduler::model::ContentHash;
use neap_scheduler::spec::{ArtifactFault, ArtifactInfo};
use neap_training::measure::Measured;

use crate::http::body::ProgramBody;

/// A program that can be brought along.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Artifact {
    /// Its content.
    pub(crate) hash: ContentHash,
    /// Where it is on this machine; `None` where only the control plane has it.
    pub(crate) path: Option<PathBuf>,
    /// What it says about itself.
    pub(crate) program: ProgramBody,
    /// The same for the parser of job files.
    pub(crate) info: ArtifactInfo,
}

impl Artifact {
    /// Looks at a program of this machine.
    ///
    /// # Errors
    ///
    /// Why it cannot be brought along.
    pub(crate) fn look_at(path: &Path) -> Result<Self, ArtifactFault> {
        let hash = inspect::inspect(path)?;
        let program = ask::entries(path)?;
        Self::described(hash, Some(path.to_owned()), program)
    }

    /// A program of which only the description is here.
    ///
    /// # Errors
    ///
    /// Where the description is none.
    pub(crate) fn described(
        hash: ContentHash,
        path: Option<PathBuf>,
        program: ProgramBody,
    ) -> Result<Self, ArtifactFault> {
        let entries = program.infos().map_err(|fault| ArtifactFault {
            message: fault.to_string(),
            help: "build the program again with this version of neap".to_owned(),
        })?;
        let info = ArtifactInfo { hash, entries, mains: program.mains.clone() };
        Ok(Self { hash, path, program, info })
    }

    /// Has the program measure how fast it trains a job on this machine; `None` where it is not here.
    pub(crate) fn measure(&self, launch: &TrainLaunch, time: Duration) -> Option<Result<Measured, String>> {
        self.path.as_ref().map(|path| ask::measure(path, launch, time))
    }
}
