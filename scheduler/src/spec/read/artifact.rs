//! `train.artifact` and `actors.artifact`: the program that has the entry or the main function. What is in it was found out before, and comes with the context.

use super::super::code::Code;
use super::super::context::{ArtifactInfo, ArtifactPlace, ParseContext};
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field};
use super::data;
use crate::model::{ContentHash, ContentHashParseError};

/// The artifact, where the job names one.
pub(super) fn artifact<'a>(
    work: &Block<'_>,
    context: &'a ParseContext,
    faults: &mut Faults,
) -> Result<Option<&'a ArtifactInfo>, Reported> {
    work.optional(faults, "artifact", |field, faults| match (&context.artifact, place(field, context, faults)?) {
        (Some(Ok(info)), ArtifactPlace::Content(hash)) if info.hash != hash => {
            let message = format!("{hash} was asked for, and {} was found", info.hash);
            Err(field.fault(faults, Code::Artifact, message, "hand the job in again"))
        }
        (Some(Ok(info)), _) => Ok(info),
        (Some(Err(why)), _) => Err(field.fault(faults, Code::Artifact, &why.message, &why.help)),
        (None, _) => {
            let message = format!("nothing is known about the artifact {}", field.found());
            Err(field.fault(faults, Code::Artifact, message, "hand the job in with `neap run`, which looks into it"))
        }
    })
}

/// Where the artifact is. Pure: nothing is looked at.
pub(in super::super) fn place(
    field: &Field<'_>,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<ArtifactPlace, Reported> {
    let text = field.text(faults)?;
    if !text.starts_with(ContentHash::PREFIX) {
        return data::local_path(field, Code::Artifact, context, faults).map(ArtifactPlace::Path);
    }
    text.parse().map(ArtifactPlace::Content).map_err(|wrong: ContentHashParseError| {
        field.fault(faults, Code::Artifact, wrong.to_string(), "give the whole hash, or a path")
    })
}
