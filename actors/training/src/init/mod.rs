//! Weights in: a training that begins with given weights instead of drawn ones (`train.init`).
//!
//! safetensors files, and PyTorch files (`.pt`, `.pth`). A PyTorch file is a pickle, which Python would run as a program; the
//! reader here only reads tensors out of it and runs nothing. PyTorch keeps the weights of a linear layer as `[out, in]`, burn as
//! `[in, out]`: they are turned, also those of a safetensors file that says it comes from PyTorch.
//!
//! Tensors are F32, or F16 and BF16, which are exact as F32, or F64, which is rounded to the nearest. The file may lie in an
//! object store.
//!
//! Every tensor of the model must be in the file with its shape, and every tensor of the file in the model, unless the job says
//! otherwise; what does not fit is named, all of it at once.

mod file;
mod frozen;
mod number;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use neap_storage::object::ObjectError;

use crate::model::{Layout, TensorPlace};
pub use file::weights_digest;
use file::{Contents, Stored};
pub(crate) use frozen::PartlyFrozen;

/// How many tensors a message names; the rest is counted.
const NAMED_MAX: usize = 8;

/// What a safetensors file of our own has beside the model's tensors.
const INPUT: &str = "input";

/// Which weights a training begins with, and which of them stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitWeights {
    /// The file, or the URI of an object.
    pub path: PathBuf,
    /// What it was known by when the job was accepted ([`weights_digest`]).
    pub digest: Option<String>,
    /// New names: of a tensor, or of all whose name begins with this and a dot. The longest that fits counts.
    pub rename: BTreeMap<String, String>,
    /// Tensors of the model that are drawn from the seed all the same, by name or by what it begins with.
    pub fresh: Vec<String>,
    /// Tensors of the file that are not wanted, by their names there or by what these begin with.
    pub ignore: Vec<String>,
    /// Tensors of the model that do not change, by name or by what it begins with.
    pub freeze: Vec<String>,
}

/// Why a training cannot begin with these weights.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The file cannot be read.
    #[error("failed to read the weights in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object store did not give it.
    #[error("failed to read the weights in {}", path.display())]
    Store {
        /// The URI.
        path: PathBuf,
        /// What became of it.
        #[source]
        source: Box<ObjectError>,
    },
    /// It is not the file any more that the job was accepted with.
    #[error("the weights in {} have changed since the job was accepted; put the file back or run the job anew", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It is of no kind that is read, or damaged.
    #[error("{} holds no weights that can be read: {why}; give a .safetensors file, or a state_dict as .pt or .pth", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// Tensors do not fit.
    #[error("the weights in {} do not fit the model: {}", path.display(), faults.join("; "))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Each with the names, and what to do.
        faults: Vec<String>,
    },
    /// The job freezes what there is not.
    #[error("`train.init.{field}` names `{name}`, and no tensor of the {what} begins so; there are: {known}")]
    NoSuch {
        /// The field.
        field: &'static str,
        /// What it names.
        name: String,
        /// Of what.
        what: &'static str,
        /// What there is.
        known: String,
    },
}

impl InitWeights {
    /// The buffer of parameters to begin with: the file's, and the `drawn` ones where the job wants those.
    ///
    /// # Errors
    ///
    /// [`InitError`].
    pub fn load(&self, layout: &Layout, mut drawn: Vec<f32>) -> Result<Vec<f32>, InitError> {
        let Contents { tensors, of_pytorch } = self.read()?;
        let mut named = BTreeMap::new();
        for (name, stored) in tensors {
            if !self.ignore.iter().any(|prefix| begins(&name, prefix)) {
                named.insert(self.renamed(&name), (name, stored));
            }
        }
        let (mut missing, mut faults) = (Vec::new(), Vec::new());
        for place in layout.places() {
            let stored = named.remove(&place.name);
            if self.fresh.iter().any(|prefix| begins(&place.name, prefix)) {
                continue;
            }
            match stored {
                None => missing.push(place.name.as_str()),
                Some((name, stored)) => {
                    let turn = of_pytorch && layout.is_linear_weight(place);
                    if let Err(fault) = take(&name, stored, turn, place, &mut drawn[place.range()]) {
                        faults.push(fault);
                    }
                }
            }
        }
        let of_input = |name: &str| !of_pytorch && begins(name, INPUT);
        let extra: Vec<&str> = named.values().map(|(name, _)| name.as_str()).filter(|name| !of_input(name)).collect();
        if !missing.is_empty() {
            let names = some_of(missing.into_iter());
            faults
                .push(format!("it lacks {names} (rename the file's tensors, or list these under `train.init.fresh`)"));
        }
        if !extra.is_empty() {
            let names = some_of(extra.into_iter());
            faults.push(format!("the model has no {names} (rename them, or list them under `train.init.ignore`)"));
        }
        match faults.is_empty() {
            true => Ok(drawn),
            false => Err(InitError::Misfit { path: self.path.clone(), faults }),
        }
    }

    /// The positions of the tensors that do not change.
    ///
    /// # Errors
    ///
    /// [`InitError::NoSuch`].
    pub fn frozen(&self, layout: &Layout) -> Result<Vec<Range<usize>>, InitError> {
        let known = || some_of(layout.places().iter().map(|place| place.name.as_str()));
        for (field, prefixes) in [("freeze", &self.freeze), ("fresh", &self.fresh)] {
            for prefix in prefixes {
                if !layout.places().iter().any(|place| begins(&place.name, prefix)) {
                    return Err(InitError::NoSuch { field, name: prefix.clone(), what: "model", known: known() });
                }
            }
        }
        let frozen = |place: &&TensorPlace| self.freeze.iter().any(|prefix| begins(&place.name, prefix));
        Ok(layout.places().iter().filter(frozen).map(TensorPlace::range).collect())
    }

    fn renamed(&self, name: &str) -> String {
        let fits = |(from, _): &(&String, &String)| begins(name, from);
        let longest = self.rename.iter().filter(fits).max_by_key(|(from, _)| from.len());
        let Some((from, to)) = longest else { return name.to_owned() };
        match (&name[from.len()..], to.as_str()) {
            (rest, "") => rest.trim_start_matches('.').to_owned(),
            (rest, to) => format!("{to}{rest}"),
        }
    }
}

/// Whether a tensor's name is `prefix`, or goes on behind it with a dot.
fn begins(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Puts a tensor into its place.
fn take(name: &str, stored: Stored, turn: bool, place: &TensorPlace, to: &mut [f32]) -> Result<(), String> {
    let Stored { shape, values } = stored;
    let turned: Vec<usize> = if turn { shape.iter().rev().copied().collect() } else { shape.clone() };
    if turned != place.shape {
        return Err(format!("{name} is {shape:?} and {} needs {:?}", place.name, wanted(place, turn)));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(format!("{name} has {} at position {at}", values[at]));
    }
    match (turn, &shape[..]) {
        (true, &[rows, columns]) => {
            for row in 0..rows {
                for column in 0..columns {
                    to[column * rows + row] = values[row * columns + column];
                }
            }
        }
        _ => to.copy_from_slice(&values),
    }
    Ok(())
}

/// The shape that a place needs, as the file would have it.
fn wanted(place: &TensorPlace, turn: bool) -> Vec<usize> {
    if turn { place.shape.iter().rev().copied().collect() } else { place.shape.clone() }
}

/// The first names, and how many more there are.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names[..names.len().min(NAMED_MAX)].join(", ");
    match names.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

#[cfg(test)]
mod tests;
