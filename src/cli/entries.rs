//! `neap entries`: what can be trained or run, by this program or by another that links Neap. Also what such a program answers when
//! it is asked as an artifact.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use neap_runtime::codec;
use neap_runtime::wire::training::TrainLaunch;
use neap_runtime::workload::LAUNCH_BYTES_MAX;
use neap_scheduler::model::ContentHash;
use neap_scheduler::spec::{ArtifactFault, ArtifactPlace};
use serde_json::json;

use crate::artifact::Artifact;
use crate::http::body::{EntryBody, MeasuredBody, ProgramBody};

use super::Shell;
use super::client::Client;
use super::exit::{CliError, Exit};
use super::output::harmless;

pub(super) fn entries(shell: &Shell, artifact: Option<&str>) -> Result<Exit, CliError> {
    let artifact = artifact.map(|named| find(shell, named)).transpose()?;
    let program = match &artifact {
        Some(artifact) => artifact.program.clone(),
        None => own(shell),
    };
    let entries = program.entries.iter().map(|entry| &entry.name);
    let names: Vec<&str> = entries.chain(&program.mains).map(String::as_str).collect();
    let hash = artifact.as_ref().map(|artifact| artifact.hash);
    let document = json!({ "artifact": hash, "program": program });
    shell.output.document(&document, &names.join("\n"), || {
        let head = hash.map(|hash| format!("{hash}\n\n")).unwrap_or_default();
        let mains = program.mains.iter().map(|main| format!("{main} (main function of own actors)\n"));
        harmless(&(head + &program.entries.iter().map(entry_text).chain(mains).collect::<Vec<_>>().join("\n")))
    })?;
    Ok(Exit::Ok)
}

/// What this program says about itself.
fn own(shell: &Shell) -> ProgramBody {
    ProgramBody::of(&shell.program.entries().infos(), shell.program.mains())
}

fn find(shell: &Shell, named: &str) -> Result<Artifact, CliError> {
    let place = match named.starts_with(ContentHash::PREFIX) {
        true => ArtifactPlace::Content(named.parse().map_err(|error| CliError::Usage(format!("{error}")))?),
        false => ArtifactPlace::Path(named.to_owned()),
    };
    look_at(shell, &place).map_err(CliError::Artifact)
}

fn entry_text(entry: &EntryBody) -> String {
    let width = entry.params.iter().map(|param| param.name.len()).max().unwrap_or_default();
    let lines = entry.params.iter().map(|param| {
        let default = param.default.as_ref().map(|value| format!(" [default: {value}]")).unwrap_or_default();
        format!("  {:width$}  {}{default}\n", param.name, param.takes)
    });
    format!("{} (batch {})\n{}", entry.name, entry.default_batch, lines.collect::<String>())
}

/// Looks at the program that a job file names.
///
/// # Errors
///
/// Why it cannot be brought along.
pub(super) fn look_at(shell: &Shell, place: &ArtifactPlace) -> Result<Artifact, ArtifactFault> {
    match place {
        ArtifactPlace::Path(path) => Artifact::look_at(Path::new(path)),
        ArtifactPlace::Content(hash) => {
            let cannot = |error: CliError| ArtifactFault {
                message: format!("only the control plane can tell what is in {hash}: {}", error.chain()),
                help: "name the program by its path, or start the control plane with `neap up`".to_owned(),
            };
            let kept = shell.client().and_then(|client| Ok(client.artifact(*hash)?)).map_err(cannot)?;
            match kept.and_then(|kept| kept.program) {
                Some(program) => Artifact::described(*hash, None, program),
                None => Err(ArtifactFault {
                    message: format!("the control plane does not have {hash}"),
                    help: "name the program by its path; `neap run` hands it in".to_owned(),
                }),
            }
        }
    }
}

/// Hands a job's program in, where the control plane does not have it.
pub(super) fn hand_in(shell: &Shell, client: &Client, artifact: &Artifact) -> Result<(), CliError> {
    let Some(path) = &artifact.path else { return Ok(()) };
    let kept = client.artifact(artifact.hash)?;
    if kept.is_none() {
        let file = File::open(path).map_err(|source| CliError::ReadFile { path: path.clone(), source })?;
        shell.output.remark(&format!("handing in {} ({})", path.display(), artifact.hash));
        client.upload(artifact.hash, &file)?;
    }
    if kept.is_none_or(|kept| kept.program.is_none()) {
        client.describe(artifact.hash, &artifact.program)?;
    }
    Ok(())
}

/// Prints what this program can do, for whoever brings it along.
pub(super) fn describe(shell: &Shell) -> Result<Exit, CliError> {
    say(shell, &own(shell))
}

/// Prints how fast this program trains the job on its standard input: the time to measure for, then the launch.
pub(super) fn measure(shell: &Shell) -> Result<Exit, CliError> {
    let unreadable = |error: &dyn std::error::Error| CliError::Usage(format!("no question on standard input: {error}"));
    let (mut ms, mut launch) = ([0; 8], Vec::new());
    let mut input = std::io::stdin().lock();
    input.read_exact(&mut ms).map_err(|error| unreadable(&error))?;
    input.take(LAUNCH_BYTES_MAX as u64).read_to_end(&mut launch).map_err(|error| unreadable(&error))?;
    let launch = codec::decode::<TrainLaunch, LAUNCH_BYTES_MAX>(&launch).map_err(|error| unreadable(&error))?;
    let time = Duration::from_millis(u64::from_le_bytes(ms));
    let measured = neap_training::measure::measure(launch, shell.program.entries(), time).map_err(CliError::Measure)?;
    say(shell, &MeasuredBody::from(measured))
}

fn say(shell: &Shell, body: &impl serde::Serialize) -> Result<Exit, CliError> {
    let text = serde_json::to_string(body).map_err(|error| CliError::Output(error.into()))?;
    shell.output.text(&format!("{text}\n"))?;
    Ok(Exit::Ok)
}
