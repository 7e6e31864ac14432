//! Places: a local path, or the URI of a place in an object store.

use super::super::code::Code;
use super::super::context::ParseContext;
use super::super::fault::{Faults, Reported};
use super::super::field::Field;
use super::data;
use crate::model::Location;

/// A local path as [`data::local_path`] reads it, or a place in an object store.
pub(super) fn location(
    field: &Field<'_>,
    code: Code,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<Location, Reported> {
    let text = field.text(faults)?;
    if !data::is_remote(text) {
        return data::local_path(field, code, context, faults).map(|path| Location::Local(path.into()));
    }
    Location::parse(text).map_err(|error| {
        let help = "write `s3://bucket/some/prefix`; credentials come from the environment";
        field.fault(faults, code, error.to_string(), help)
    })
}
