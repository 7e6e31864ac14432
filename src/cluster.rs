//! A cluster of this machine that a program brings up for itself: for examples, tests, and programs that train on the side.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli;
use crate::cli::client::Client;
use crate::cli::exit::Exit;
use crate::home::Home;
use crate::http::body::JobBody;
use crate::program::{self, Program};

/// A cluster in a home folder of its own, ended when this is dropped.
///
/// Its control plane and its nodes are this very program, started again in these roles. So `main` must begin with
/// [`crate::worker_main`]; [`Self::up`] refuses to go on where it does not play its role.
///
/// ```no_run
/// use neap::{Cluster, Entries};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     neap::worker_main(Entries::builtin());
///     let cluster = Cluster::up(Entries::builtin(), "/tmp/my-cluster")?;
///     cluster.neap(["run", "--yes", "examples/digits.yaml"])?;
///     println!("{:?}", cluster.job("digits")?.result);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Cluster {
    program: Program,
    home: Home,
}

/// What a cluster did not do.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It was asked for by a process that should play a role in one.
    #[error("this process was started as `{role}`; let `main` begin with `neap::worker_main(entries)`")]
    NotAtRole {
        /// The role.
        role: String,
    },
    /// A command ended with an exit code other than 0. It has said why on standard error.
    #[error("`neap {}` ended with exit code {code}", words.join(" "))]
    Command {
        /// The command.
        words: Vec<String>,
        /// Its exit code.
        code: u8,
    },
    /// Its folder does not work.
    #[error("failed to use the folder {path}")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be asked.
    #[error(transparent)]
    Client(#[from] cli::client::ClientError),
    /// The folder has no usable name.
    #[error(transparent)]
    Home(#[from] crate::home::HomeError),
}

impl Cluster {
    /// Starts a control plane with this home folder, or takes up the one that runs there.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn up(program: impl Into<Program>, home: impl AsRef<Path>) -> Result<Self, ClusterError> {
        if let Some(role) = program::role() {
            return Err(ClusterError::NotAtRole { role: role.to_string_lossy().into_owned() });
        }
        let cluster = Self { program: program.into(), home: Home::locate(Some(home.as_ref()))? };
        cluster.neap(["up", "--quiet", "--http", "127.0.0.1:0"])?;
        Ok(cluster)
    }

    /// Runs a command as on the command line, without `neap` and without the home folder.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Command`] where it ends with another exit code than 0.
    pub fn neap<W: Into<OsString>>(&self, words: impl IntoIterator<Item = W>) -> Result<(), ClusterError> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut line: Vec<OsString> = vec!["neap".into(), "--home".into(), self.home.path().into()];
        line.extend(words.iter().cloned());
        match cli::run(&self.program, line) {
            Exit::Ok => Ok(()),
            exit => {
                let words = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                Err(ClusterError::Command { words, code: exit as u8 })
            }
        }
    }

    /// Runs a job to its end, showing how it goes. The text of its job file is kept as `NAME.yaml` in the home folder, where
    /// relative paths in it start.
    ///
    /// # Errors
    ///
    /// [`ClusterError`], also where the job does not succeed.
    pub fn run(&self, name: &str, job_file: &str) -> Result<JobBody, ClusterError> {
        let path = self.home.path().join(name).with_extension("yaml");
        fs::write(&path, job_file).map_err(|source| ClusterError::Folder { path: path.clone(), source })?;
        self.neap([OsString::from("run"), OsString::from("--yes"), path.into_os_string()])?;
        self.job(name)
    }

    /// How a job is, by its name or id.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Client`].
    pub fn job(&self, name: &str) -> Result<JobBody, ClusterError> {
        Ok(Client::find(&self.home)?.job(name)?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.neap(["down", "--quiet"]) {
            tracing::warn!(%error, "the cluster goes on; `neap down` ends it");
        }
    }
}
