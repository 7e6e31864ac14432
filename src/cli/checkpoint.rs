//! `neap checkpoint list`, `verify`, `restore` and `gc`.
//!
//! Lists are read where the checkpoints lie, with the credentials of whoever asks: the control plane is only asked where that
//! is, and not at all where the command line says it.

use std::path::Path;

use neap_storage::checkpoint::{CheckpointError, CheckpointStore, Listed};
use neap_storage::object::Location;
use serde::Serialize;

use crate::http::body::RestoreBody;

use super::Shell;
use super::args::{CheckpointsArgs, Format, GcArgs, RestoreArgs, VerifyArgs};
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone};

/// A checkpoint as it is printed.
#[derive(Debug, Serialize)]
struct CheckpointLine {
    name: String,
    step: u64,
    membership_epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Only where it was looked at: nothing is wrong where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

impl From<Listed> for CheckpointLine {
    fn from(listed: Listed) -> Self {
        let (name, step, membership_epoch) = (listed.name, listed.step, listed.membership.0);
        Self { name, step, membership_epoch, bytes: None, damage: None }
    }
}

pub(super) fn list(shell: &Shell, args: &CheckpointsArgs) -> Result<Exit, CliError> {
    let location = locate(shell, args)?;
    let lines: Vec<CheckpointLine> = listed(&location)?.1.into_iter().map(CheckpointLine::from).collect();
    if lines.is_empty() && shell.output.format == Format::Table {
        shell.output.remark(&format!("no checkpoints in {location}"));
        return Ok(Exit::Ok);
    }
    let mut listing = Listing::new(&["NAME", "STEP", "MEMBERSHIP"]);
    for line in &lines {
        listing.row([&line.name, &line.step.to_string(), &line.membership_epoch.to_string()].map(plain));
    }
    shell.output.list(&lines, &listing)?;
    Ok(Exit::Ok)
}

pub(super) fn verify(shell: &Shell, args: &VerifyArgs) -> Result<Exit, CliError> {
    let location = locate(shell, &args.place)?;
    let (store, listed) = listed(&location)?;
    let wanted = |listed: &Listed| args.name.as_ref().is_none_or(|name| *name == listed.name);
    let mut lines: Vec<CheckpointLine> = listed.into_iter().filter(wanted).map(CheckpointLine::from).collect();
    if let Some(name) = args.name.as_ref().filter(|_| lines.is_empty()) {
        return Err(CliError::NoCheckpoint { what: format!("no checkpoint {name} in {location}") });
    }
    for line in &mut lines {
        let store = store.as_ref().ok_or_else(|| CliError::NoCheckpoint { what: location.to_string() })?;
        match store.load(&line.name) {
            Ok(loaded) => line.bytes = Some(loaded.parts.values().map(|part| part.len() as u64).sum()),
            // What cannot be reached is not damaged.
            Err(error @ CheckpointError::Store { .. }) => return Err(error.into()),
            Err(error) => line.damage = Some(crate::chain::chain(&error)),
        }
    }
    let mut listing = Listing::new(&["NAME", "STEP", "BYTES", "STATE"]);
    for line in &lines {
        let bytes = line.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let state = line.damage.as_ref().map_or(("whole".to_owned(), Tone::Good), |why| (why.clone(), Tone::Bad));
        listing.row([plain(&line.name), plain(&line.step.to_string()), plain(&bytes), state]);
    }
    shell.output.list(&lines, &listing)?;
    match lines.iter().filter(|line| line.damage.is_some()).count() {
        0 => Ok(Exit::Ok),
        damaged => Err(CliError::DamagedCheckpoints { damaged, of: lines.len() }),
    }
}

pub(super) fn restore(shell: &Shell, args: &RestoreArgs) -> Result<Exit, CliError> {
    let job = shell.client()?.restore(&args.job, RestoreBody { step: args.to })?;
    let step = job.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.step);
    shell.output.document(&job, &job.id, || {
        format!("{} ({}) goes on from step {step}; `neap status {}`\n", job.id, job.name, job.id)
    })?;
    Ok(Exit::Ok)
}

pub(super) fn gc(shell: &Shell, args: &GcArgs) -> Result<Exit, CliError> {
    let location = locate(shell, &args.place)?;
    let deleted = match listed(&location)?.0 {
        Some(store) => store.keep(args.keep)?,
        None => Vec::new(),
    };
    if deleted.is_empty() && shell.output.format == Format::Table {
        shell.output.remark("nothing to delete");
        return Ok(Exit::Ok);
    }
    let mut listing = Listing::new(&["DELETED"]);
    deleted.iter().for_each(|name| listing.row([plain(name)]));
    shell.output.list(&deleted, &listing)?;
    Ok(Exit::Ok)
}

fn plain(text: impl AsRef<str>) -> (String, Tone) {
    (text.as_ref().to_owned(), Tone::Plain)
}

/// Where the checkpoints lie that the user means.
fn locate(shell: &Shell, args: &CheckpointsArgs) -> Result<Location, CliError> {
    let text = &args.place;
    if !text.contains('/') {
        let job = shell.client()?.job(text)?;
        return Location::parse(&job.checkpoints).map_err(|error| CliError::Usage(error.to_string()));
    }
    let location = Location::parse(text).map_err(|error| CliError::Usage(error.to_string()))?;
    match &location {
        Location::Local(folder) if !folder.is_dir() => {
            Err(CliError::NoCheckpoint { what: format!("no folder {}", folder.display()) })
        }
        _ => Ok(location),
    }
}

/// The store and what is in it, the newest first; no store where a job has not written anything yet.
fn listed(location: &Location) -> Result<(Option<CheckpointStore>, Vec<Listed>), CliError> {
    if let Location::Local(folder) = location
        && !Path::new(folder).is_dir()
    {
        return Ok((None, Vec::new()));
    }
    let store = CheckpointStore::open_at(location)?;
    let mut listed = store.list()?;
    listed.reverse();
    Ok((Some(store), listed))
}
