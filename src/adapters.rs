//! The adapters of this machine as wgpu sees them: cards, and software that plays one.

use std::io;

use neap_agent::devices::bus;
use neap_runtime::wire::device::{Device, DeviceKind};
use wgpu::{AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor};

/// All of them, through Vulkan, Metal or DirectX; a card that is seen twice, once.
///
/// Wakes the drivers, which may take seconds, or this process: for short-lived ones only.
///
/// # Errors
///
/// Where there is no runtime to wait in.
pub(crate) fn all() -> io::Result<Vec<Device>> {
    let backends = Backends::PRIMARY;
    let instance = Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let found = runtime.block_on(instance.enumerate_adapters(backends));
    let mut devices: Vec<Device> = Vec::new();
    for device in found.iter().map(|adapter| device(&adapter.get_info())) {
        if device.bus.is_none() || devices.iter().all(|known| known.bus != device.bus) {
            devices.push(device);
        }
    }
    Ok(devices)
}

fn device(info: &AdapterInfo) -> Device {
    let driver = format!("{} {}", info.driver, info.driver_info);
    Device {
        name: info.name.clone(),
        kind: match info.device_type {
            DeviceType::DiscreteGpu => DeviceKind::Discrete,
            DeviceType::IntegratedGpu => DeviceKind::Integrated,
            DeviceType::VirtualGpu => DeviceKind::Virtual,
            DeviceType::Cpu => DeviceKind::Cpu,
            DeviceType::Other => DeviceKind::Unknown,
        },
        vendor_id: info.vendor,
        api: Some(info.backend.to_string()),
        driver: Some(driver.trim().to_owned()).filter(|driver| !driver.is_empty()),
        bus: bus(&info.device_pci_bus_id),
        uuid: None,
        memory_bytes: None,
        memory_used_bytes: None,
        busy_percent: None,
    }
}
