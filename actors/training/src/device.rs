//! What a job computes on: burn's CPU backend, or a graphics card. Chosen by the job file, opened once in a process.
//!
//! Everything that builds a network is handed a [`ComputeDevice`]; nothing else in this crate names a backend. Which
//! backends there are is decided when the program is built (the cargo features `wgpu` and `cuda`), which of them work when a
//! device is opened: both are told by [`DeviceError`], before a job computes anything.

use std::fmt;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use neap_runtime::wire::training::Backend;

/// A device that works.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    backend: Backend,
    /// Without autodiff.
    device: Device,
    model: String,
}

/// Why there is no device to compute on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without the backend.
    #[error(
        "`train.backend: {0}` on a node whose `neap` was built without the cargo feature `{0}`; build it with \
         `cargo build --release --features {0}` on all nodes, or write `train.backend: flex`"
    )]
    NotBuilt(&'static str),
    /// The node has nothing that the backend can use, or it cannot be used.
    #[error(
        "`train.backend: {backend}` finds no device on this node: {said}; see `neap devices`, install the driver of the \
         card, or write `train.backend: flex`"
    )]
    NotFound {
        /// The backend.
        backend: &'static str,
        /// What it says.
        said: String,
    },
    /// The device does not answer any more. Thrown as a panic where a network computes; whoever guards the network catches it.
    #[error("the device does not compute any more: {0}; look at the kernel's log of this node for its driver")]
    Lost(String),
}

impl ComputeDevice {
    /// The processor.
    pub fn flex() -> Self {
        Self { backend: Backend::Flex, device: Device::flex(), model: format!("flex {}", std::env::consts::ARCH) }
    }

    /// Opens the device of a backend; the same one each time in one process. Takes seconds where a driver has to wake up.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NotBuilt`], [`DeviceError::NotFound`].
    pub fn open(backend: Backend) -> Result<Self, DeviceError> {
        static WGPU: OnceLock<Result<ComputeDevice, DeviceError>> = OnceLock::new();
        static CUDA: OnceLock<Result<ComputeDevice, DeviceError>> = OnceLock::new();
        let (slot, open): (&OnceLock<_>, fn() -> Result<Self, DeviceError>) = match backend {
            Backend::Flex => return Ok(Self::flex()),
            Backend::Wgpu => (&WGPU, open_wgpu),
            Backend::Cuda => (&CUDA, open_cuda),
        };
        // Drivers are other people's code, and burn panics over some of what they do.
        let guarded = || {
            catch_unwind(open).unwrap_or_else(|panic| {
                Err(DeviceError::NotFound { backend: name(backend), said: crate::entry::said(&*panic) })
            })
        };
        slot.get_or_init(guarded).clone()
    }

    /// The backend.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Backend, model and driver, for people and for comparing: two devices of one model give the same bits.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Where networks that are to be trained are built.
    pub(crate) fn training(&self) -> Device {
        self.device.clone().autodiff()
    }

    /// Where networks only predict.
    pub(crate) fn prediction(&self) -> Device {
        self.device.clone()
    }
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.model)
    }
}

/// A backend as job files write it.
pub fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Flex => "flex",
        Backend::Wgpu => "wgpu",
        Backend::Cuda => "cuda",
    }
}

/// What a tensor holds.
///
/// # Panics
///
/// With [`DeviceError::Lost`] where the device does not give it.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> TensorData {
    tensor.try_into_data().unwrap_or_else(|error| lost(&error))
}

/// Ends what is being computed.
pub(crate) fn lost(error: &ExecutionError) -> ! {
    std::panic::panic_any(DeviceError::Lost(error.to_string()))
}

/// Computes something, so that a device that cannot is found out here.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn tried(backend: Backend, device: Device, model: String) -> Result<ComputeDevice, DeviceError> {
    let not_found = |said| DeviceError::NotFound { backend: name(backend), said };
    let sum = catch_unwind(std::panic::AssertUnwindSafe(|| Tensor::<1>::ones([2], &device).sum().try_into_data()))
        .map_err(|panic| not_found(crate::entry::said(&*panic)))?
        .map_err(|error| not_found(error.to_string()))?;
    match sum.try_into_vec::<f32>() {
        Ok(sum) if sum == [2.0] => Ok(ComputeDevice { backend, device, model }),
        other => Err(not_found(format!("{model} computes 1 + 1 = {other:?}"))),
    }
}

#[cfg(feature = "wgpu")]
fn open_wgpu() -> Result<ComputeDevice, DeviceError> {
    use burn::tensor::wgpu::wgpu::DeviceType;

    let opened = Device::wgpu_options().init_with_setup();
    let (device, setup) = opened.map_err(|error| DeviceError::NotFound { backend: "wgpu", said: error.to_string() })?;
    let info = setup.adapter.get_info();
    let model = format!("wgpu {} {} ({} {})", info.backend, info.name, info.driver, info.driver_info);
    if info.device_type == DeviceType::Cpu {
        tracing::warn!(adapter = %info.name, "no graphics card here: wgpu computes on the processor, slower than `flex` does");
    }
    tried(Backend::Wgpu, device, model)
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu() -> Result<ComputeDevice, DeviceError> {
    Err(DeviceError::NotBuilt("wgpu"))
}

#[cfg(feature = "cuda")]
fn open_cuda() -> Result<ComputeDevice, DeviceError> {
    use burn::tensor::DeviceType;

    let Some(device) = Device::enumerate(DeviceType::Cuda).into_vec().into_iter().next() else {
        let said = "CUDA sees no card of NVIDIA's".to_owned();
        return Err(DeviceError::NotFound { backend: "cuda", said });
    };
    let identity = device.identity().map(|identity| format!("{} ({})", identity.name, identity.fingerprint));
    let model = format!("cuda {}", identity.unwrap_or_else(|| "of unknown model".to_owned()));
    tried(Backend::Cuda, device, model)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda() -> Result<ComputeDevice, DeviceError> {
    Err(DeviceError::NotBuilt("cuda"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        let device = ComputeDevice::open(Backend::Flex).unwrap();
        assert_eq!(device.backend(), Backend::Flex);
        assert!(device.model().starts_with("flex "), "{device}");
    }

    #[cfg(not(feature = "wgpu"))]
    #[test]
    fn a_backend_that_was_not_built_says_what_to_do() {
        let error = ComputeDevice::open(Backend::Wgpu).unwrap_err();
        assert_eq!(error, DeviceError::NotBuilt("wgpu"));
        let text = error.to_string();
        assert!(text.contains("built without the cargo feature `wgpu`"), "{text}");
        assert!(text.contains("cargo build --release --features wgpu"), "{text}");
    }
}
