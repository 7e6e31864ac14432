//! A program of own actors.

use super::super::code::Code;
use super::super::context::ParseContext;
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field, Missing, similar, words};
use super::super::job::ActorsSpec;
use super::super::layout;
use super::{artifact, missing, params};

/// What actors decide themselves: when they save, and how often.
const NOT_OF_ACTORS: &[&str] = &["every", "keep", "on_notice"];

/// `actors`, and what of the job does not go with it.
pub(super) fn actors(job: &Block<'_>, context: &ParseContext, faults: &mut Faults) -> Result<ActorsSpec, Reported> {
    let no_block = Missing { code: Code::KindBlock, help: "add the block `actors:` with `main`" };
    let checkpoint = own_saves(job, faults);
    let spec = job.required(faults, "actors", no_block, |field, faults| {
        let block = field.block(faults, &layout::ACTORS)?;
        let artifact = artifact::artifact(&block, context, faults);
        let mains = match &artifact {
            Ok(Some(artifact)) => Some(&artifact.mains),
            Ok(None) => context.mains.as_ref(),
            // What it would have is not known.
            Err(_) => None,
        };
        let known = words(mains.into_iter().flatten().map(String::as_str));
        let help = format!("name the main function: {known}");
        let main = block.required(faults, "main", missing(&help), |field, faults| main(field, mains, faults));
        let params = block.optional(faults, "params", params::free);
        let artifact = artifact?.map(|artifact| artifact.hash);
        Ok(ActorsSpec { main: main?, artifact, params: params?.unwrap_or_default() })
    });
    checkpoint?;
    spec
}

fn main(field: &Field<'_>, mains: Option<&Vec<String>>, faults: &mut Faults) -> Result<String, Reported> {
    let name = field.text(faults)?;
    let Some(mains) = mains else { return Ok(name.to_owned()) };
    let known = || mains.iter().map(String::as_str);
    if known().any(|main| main == name) {
        return Ok(name.to_owned());
    }
    let help = match (similar(name, known()), mains.is_empty()) {
        (Some(word), _) => format!("did you mean `{word}`?"),
        (None, true) => {
            "the program has none; name one that registers it with `artifact`, or submit the job with it".to_owned()
        }
        (None, false) => format!("choose {}", words(known())),
    };
    Err(field.fault(faults, Code::UnknownEntry, format!("there is no main function {}", field.found()), help))
}

/// Refuses what says when a training is saved.
fn own_saves(job: &Block<'_>, faults: &mut Faults) -> Result<(), Reported> {
    let given = NOT_OF_ACTORS.iter().filter_map(|key| job.get("checkpoint")?.get(key));
    let refused = given.map(|field| {
        let message = "own actors save their states when they have something to save";
        faults.error(Code::NotBuiltYet, &field.path, field.key_span, message, "leave it out")
    });
    refused.last().map_or(Ok(()), Err)
}
