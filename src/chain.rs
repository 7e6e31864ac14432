//! An error as a person reads it: its message, then what caused it, then what caused that.

use std::error::Error;

/// The message of an error with those of all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
