//! What can be trained: a registry of entries by name, each with its settings.
//!
//! [`Entries::builtin`] has those of Neap; a program of one's own adds its models ([`Entries::with_model`]) and entries
//! ([`Entries::with`]) and hands the registry to [`crate::workload`]. [`schema`] reads what an entry's struct of
//! hyper-parameters takes, [`params`] are the settings of one job.

mod guarded;
mod params;
mod schema;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use neap_runtime::wire::worker::FailureKind;
use neap_scheduler::spec::{EntryInfo, ParamInfo, ParamValue};

pub(crate) use guarded::{Guarded, said};
pub use params::Params;
pub(crate) use params::json;

use crate::data::{SampleShape, TargetInfo};
use crate::device::{ComputeDevice, DeviceError};
use crate::model::{
    Cnn, DataShape, Entry, LinearRegression, LogisticRegression, Mlp, Model, Network, OwnNetwork, StandardNetwork,
};

/// Why an entry cannot be trained as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// There is no such entry.
    #[error("no entry `{name}`; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A setting is missing, of another type or out of range.
    #[error("`train.params.{name}` {fault}")]
    Param {
        /// The setting.
        name: String,
        /// What is wrong.
        fault: String,
    },
    /// The data has samples that the entry cannot take.
    #[error("entry `{entry}` cannot take samples of {found}; it takes {wanted}")]
    Shape {
        /// The entry.
        entry: &'static str,
        /// What the data has.
        found: String,
        /// What the entry takes.
        wanted: &'static str,
    },
    /// The data asks for something that the entry cannot predict.
    #[error("entry `{entry}` cannot predict {found}; it predicts {wanted}")]
    Target {
        /// The entry.
        entry: &'static str,
        /// What the data asks for.
        found: String,
        /// What the entry predicts.
        wanted: &'static str,
    },
    /// The entry panicked. Most often shapes do not fit: those of the data, of the layers, of the loss.
    #[error("the entry `{entry}` panicked over {given}: {said}")]
    Panicked {
        /// The entry.
        entry: String,
        /// What it was given.
        given: String,
        /// What it said.
        said: String,
    },
    /// The device that the entry computes on failed.
    #[error("the entry `{entry}` was left by its device {device}: {fault}")]
    Device {
        /// The entry.
        entry: String,
        /// The device's model.
        device: String,
        /// What happened to it.
        fault: DeviceError,
    },
}

impl EntryError {
    /// Whose fault it is.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Device { .. } => FailureKind::Invalid,
            _ => FailureKind::User,
        }
    }
}

/// The entries that a program can train, by name.
#[derive(Clone, Default)]
pub struct Entries(BTreeMap<&'static str, Arc<dyn Registered>>);

impl Entries {
    /// No entry at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of Neap: `cnn`, `linear`, `logistic` and `mlp`.
    pub fn builtin() -> Self {
        Self::none()
            .with_model::<Cnn>()
            .with_model::<LinearRegression>()
            .with_model::<LogisticRegression>()
            .with_model::<Mlp>()
    }

    /// Adds a model with the standard loss; a later one replaces an earlier one of the same name.
    ///
    /// # Panics
    ///
    /// Where its hyper-parameters are not of the kinds that [`crate::model::Hyper`] names: a fault of the program.
    #[must_use]
    pub fn with_model<M: Model>(self) -> Self {
        self.add(Standard::<M> { info: info::<M::Params>(M::NAME, M::BATCH), model: PhantomData })
    }

    /// Adds an entry with a loss of its own; a later one replaces an earlier one of the same name.
    ///
    /// # Panics
    ///
    /// As [`Self::with_model`].
    #[must_use]
    pub fn with<E: Entry>(self) -> Self {
        self.add(Own::<E> { info: info::<E::Params>(E::NAME, E::BATCH), entry: PhantomData })
    }

    fn add(mut self, entry: impl Registered + 'static) -> Self {
        self.0.insert(entry.name(), Arc::new(entry));
        self
    }

    /// What there is, for the parser of job files.
    pub fn infos(&self) -> Vec<EntryInfo> {
        self.0.values().map(|entry| entry.info().clone()).collect()
    }

    /// The settings of an entry; what is not given has its default.
    ///
    /// # Errors
    ///
    /// [`EntryError`] for an unknown entry or setting, and for a value that the setting does not take.
    pub fn params(&self, entry: &str, given: &BTreeMap<String, ParamValue>) -> Result<Params, EntryError> {
        Params::for_entry(self.find(entry)?.info(), given)
    }

    /// Builds the network of an entry on a device.
    ///
    /// # Errors
    ///
    /// [`EntryError`] where the entry is unknown or cannot take the samples.
    pub fn build(
        &self,
        device: &ComputeDevice,
        entry: &str,
        sample: SampleShape,
        target: &TargetInfo,
        params: &Params,
    ) -> Result<Box<dyn Network>, EntryError> {
        self.find(entry)?.build(device, sample, target, params)
    }

    fn find(&self, name: &str) -> Result<&dyn Registered, EntryError> {
        let unknown = || EntryError::Unknown {
            name: name.to_owned(),
            known: self.0.keys().copied().collect::<Vec<_>>().join(", "),
        };
        self.0.get(name).map(|entry| &**entry).ok_or_else(unknown)
    }
}

fn info<P: crate::model::Hyper>(name: &str, default_batch: u32) -> EntryInfo {
    let own = schema::params::<P>().unwrap_or_else(|fault| panic!("the hyper-parameters of `{name}`: {fault}"));
    let is_own = |update: &ParamInfo| own.iter().any(|own| own.name == update.name);
    let update: Vec<ParamInfo> = params::update_params().into_iter().filter(|update| !is_own(update)).collect();
    EntryInfo { name: name.to_owned(), default_batch, params: own.into_iter().chain(update).collect() }
}

/// An entry behind its name, whatever its types.
trait Registered: Send + Sync {
    fn name(&self) -> &'static str;
    fn info(&self) -> &EntryInfo;
    fn build(
        &self,
        device: &ComputeDevice,
        sample: SampleShape,
        target: &TargetInfo,
        params: &Params,
    ) -> Result<Box<dyn Network>, EntryError>;
}

struct Standard<M: Model> {
    info: EntryInfo,
    model: PhantomData<fn() -> M>,
}

impl<M: Model> Registered for Standard<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn info(&self) -> &EntryInfo {
        &self.info
    }

    fn build(
        &self,
        device: &ComputeDevice,
        sample: SampleShape,
        target: &TargetInfo,
        params: &Params,
    ) -> Result<Box<dyn Network>, EntryError> {
        Ok(Box::new(StandardNetwork::<M>::on(device, sample, target, &params.own()?)?))
    }
}

struct Own<E: Entry> {
    info: EntryInfo,
    entry: PhantomData<fn() -> E>,
}

impl<E: Entry> Registered for Own<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn info(&self) -> &EntryInfo {
        &self.info
    }

    fn build(
        &self,
        device: &ComputeDevice,
        sample: SampleShape,
        target: &TargetInfo,
        params: &Params,
    ) -> Result<Box<dyn Network>, EntryError> {
        let data = DataShape { sample, target: target.clone() };
        Ok(Box::new(OwnNetwork::<E>::on(device, data, &params.own()?)?))
    }
}
