//! The home folder: where the control plane of this machine keeps everything, and where clients find it.
//!
//! ```text
//! <home>/                 $NEAP_HOME or ~/.neap, for its owner only (0700)
//!   endpoint.json         where the control plane listens; there only while it runs      [`Endpoint`]
//!   token                 the API token (0600), written by the control plane at its first start
//!   control.lock          held by the one process that is, or is about to be, its control plane
//!   control.log           what the control plane has to say
//!   config.yaml           optional: policy, idle time, what the local provider offers
//!   rounds.jsonl          what was decided and from what, for `neap simulate replay`
//! ```
//!
//! Journal, certificates and projections live here too; they belong to the control plane alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Something about the home folder that does not work.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither a flag nor an environment variable nor a user's home says where it is.
    #[error("no home folder: HOME is not set; say where it is with --home or NEAP_HOME")]
    Nowhere,
    /// The folder cannot be made.
    #[error("failed to create the folder {path}")]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in it cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("failed to write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another control plane has it.
    #[error("another control plane is running with the home folder {path}")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file in it is not what it should be.
    #[error("{path} is damaged; remove it if no control plane is running")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Where a running control plane listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The HTTP API.
    pub http: SocketAddr,
    /// Where agents connect.
    pub quic: SocketAddr,
    /// Where new nodes present their tokens.
    pub join: SocketAddr,
    /// The control plane's process.
    pub pid: u32,
}

/// A home folder that may or may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// The folder named by `flag`, or else `.neap` in the user's home.
    ///
    /// # Errors
    ///
    /// [`HomeError::Nowhere`] where neither is known.
    pub fn locate(flag: Option<&Path>) -> Result<Self, HomeError> {
        let path = match flag {
            Some(path) => path.to_owned(),
            None => std::env::home_dir()
                .filter(|home| !home.as_os_str().is_empty())
                .ok_or(HomeError::Nowhere)?
                .join(".neap"),
        };
        std::path::absolute(&path).map(Self).map_err(|source| HomeError::Read { path, source })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The control plane's address file.
    pub fn endpoint_path(&self) -> PathBuf {
        self.0.join("endpoint.json")
    }

    /// The API token.
    pub fn token_path(&self) -> PathBuf {
        self.0.join("token")
    }

    /// The key of the certificate authority, written by the control plane at its first start.
    pub fn ca_key_path(&self) -> PathBuf {
        self.0.join("ca").join("ca.key")
    }

    /// The control plane's log.
    pub fn log_path(&self) -> PathBuf {
        self.0.join("control.log")
    }

    /// The configuration, if the user wrote one.
    pub fn config_path(&self) -> PathBuf {
        self.0.join("config.yaml")
    }

    /// Makes the folder, for its owner only.
    ///
    /// # Errors
    ///
    /// [`HomeError::Create`].
    pub fn create(&self) -> Result<(), HomeError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| HomeError::Create { path: self.0.clone(), source })
    }

    /// Takes the folder for a control plane, as long as the file is kept. Also the first start, which makes the secrets,
    /// is one process's alone.
    ///
    /// # Errors
    ///
    /// [`HomeError::Locked`] while another process has it.
    pub fn lock(&self) -> Result<File, HomeError> {
        let path = self.0.join("control.lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(|source| HomeError::Write { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(HomeError::Locked { path: self.0.clone() }),
            Err(TryLockError::Error(source)) => Err(HomeError::Write { path, source }),
        }
    }

    /// Where the control plane said that it listens; `None` where there is none, or it ended in good order.
    ///
    /// # Errors
    ///
    /// [`HomeError`] if the file is there and cannot be read.
    pub fn endpoint(&self) -> Result<Option<Endpoint>, HomeError> {
        let path = self.endpoint_path();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| HomeError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Read { path, source }),
        }
    }

    /// Tells clients where the control plane listens. They see the old file or the whole new one.
    ///
    /// # Errors
    ///
    /// [`HomeError::Write`].
    pub fn publish(&self, endpoint: &Endpoint) -> Result<(), HomeError> {
        let path = self.endpoint_path();
        let fresh = self.0.join(format!("endpoint.json.{}", endpoint.pid));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            serde_json::to_writer(&mut file, endpoint)?;
            file.write_all(b"\n")?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|source| HomeError::Write { path: path.clone(), source })
    }

    /// Takes the address file of the process `pid` back; another process's file stays.
    ///
    /// # Errors
    ///
    /// [`HomeError`] if the file cannot be read or removed.
    pub fn withdraw(&self, pid: u32) -> Result<(), HomeError> {
        if self.endpoint()?.is_none_or(|endpoint| endpoint.pid != pid) {
            return Ok(());
        }
        let path = self.endpoint_path();
        fs::remove_file(&path).map_err(|source| HomeError::Write { path, source })
    }

    /// The API token.
    ///
    /// # Errors
    ///
    /// [`HomeError::Read`], also when the control plane was never started here.
    pub fn token(&self) -> Result<String, HomeError> {
        let path = self.token_path();
        let text = fs::read_to_string(&path).map_err(|source| HomeError::Read { path, source })?;
        Ok(text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(pid: u32) -> Endpoint {
        let addr = SocketAddr::from(([127, 0, 0, 1], 7747));
        Endpoint { http: addr, quic: addr, join: addr, pid }
    }

    #[test]
    fn an_endpoint_is_found_until_its_own_process_withdraws_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(&folder.path().join("deep/home"))).unwrap();
        assert_eq!(home.endpoint().unwrap(), None);
        home.create().unwrap();
        home.publish(&endpoint(7)).unwrap();
        assert_eq!(home.endpoint().unwrap(), Some(endpoint(7)));
        home.withdraw(8).unwrap();
        assert_eq!(home.endpoint().unwrap(), Some(endpoint(7)));
        home.withdraw(7).unwrap();
        assert_eq!(home.endpoint().unwrap(), None);
        assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_home_has_one_control_plane_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path())).unwrap();
        let first = home.lock().unwrap();
        assert!(matches!(home.lock(), Err(HomeError::Locked { .. })));
        drop(first);
        home.lock().unwrap();
    }

    #[test]
    fn a_damaged_endpoint_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path())).unwrap();
        fs::write(home.endpoint_path(), "{\"http\":").unwrap();
        assert!(matches!(home.endpoint(), Err(HomeError::Damaged { .. })));
    }
}
