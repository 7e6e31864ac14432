//! Rounds that a control plane recorded, decided again.

use neap_scheduler::replay::RoundRecord;
use serde_json::json;

use super::case::read;
use crate::cli::Shell;
use crate::cli::args::ReplayArgs;
use crate::cli::exit::{CliError, Exit};

/// Decides recorded rounds again: each must give the plan that was carried out.
pub(in crate::cli) fn replay(shell: &Shell, args: &ReplayArgs) -> Result<Exit, CliError> {
    let text = read(&args.file)?;
    let name = args.file.display();
    let mut differing = Vec::new();
    let mut rounds = 0u64;
    for (line, number) in text.lines().zip(1u64..) {
        let broken = |error: &dyn std::error::Error| CliError::Usage(format!("{name}:{number}: {error}"));
        let round = RoundRecord::parse(line).map_err(|error| broken(&error))?;
        let replayed = round.replay().map_err(|error| broken(&error))?;
        rounds += 1;
        if !replayed.identical {
            differing.push(number);
        }
    }
    let document = json!({ "rounds": rounds, "differing_lines": differing });
    shell.output.document(&document, &name.to_string(), || match differing.as_slice() {
        [] => format!("{rounds} rounds, every plan the same byte for byte\n"),
        lines => format!("{rounds} rounds; another plan in lines {lines:?}\n"),
    })?;
    Ok(if differing.is_empty() { Exit::Ok } else { Exit::Conflict })
}
