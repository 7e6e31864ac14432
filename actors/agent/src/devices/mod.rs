//! What this machine says of its devices: NVIDIA's library and the kernel's files. Meant to run in a short-lived child, because
//! a driver may hang or take its process along; the agent's side is [`crate::inventory`].
//!
//! Which adapters there are for computing, wgpu knows; the shell asks it and puts both together with [`with_readings`].

mod nvml;
mod sysfs;

use std::path::Path;

use neap_runtime::wire::device::{Device, Inventory};

/// Where the kernel shows graphics cards.
const DRM_FOLDER: &str = "/sys/class/drm";

/// All cards whose memory or use can be read.
pub fn readings() -> Inventory {
    let mut inventory = nvml::read();
    inventory.devices.extend(sysfs::read(Path::new(DRM_FOLDER)));
    inventory
}

/// The devices with new readings. What was read before is forgotten; a card that was not known is added.
pub fn with_readings(mut devices: Vec<Device>, readings: Vec<Device>) -> Vec<Device> {
    for device in &mut devices {
        (device.memory_used_bytes, device.busy_percent) = (None, None);
    }
    for read in readings {
        let Some(known) = devices.iter_mut().find(|known| same(known, &read)) else {
            devices.push(read);
            continue;
        };
        known.uuid = read.uuid.or(known.uuid.take());
        known.driver = known.driver.take().or(read.driver);
        known.memory_bytes = read.memory_bytes.or(known.memory_bytes);
        known.memory_used_bytes = read.memory_used_bytes;
        known.busy_percent = read.busy_percent;
    }
    devices
}

/// Whether both are one card.
fn same(one: &Device, other: &Device) -> bool {
    let equal = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
    equal(&one.bus, &other.bus) || equal(&one.uuid, &other.uuid)
}

/// A PCI address as the kernel writes it: `0000:01:00.0`. NVIDIA's library writes eight digits of the domain.
pub fn bus(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let (domain, rest) = text.split_once(':')?;
    let domain = domain.trim_start_matches('0');
    rest.contains(':').then(|| format!("{domain:0>4}:{rest}"))
}

#[cfg(test)]
mod tests {
    use neap_runtime::wire::device::DeviceKind;

    use super::*;

    fn adapter(name: &str, bus: Option<&str>) -> Device {
        Device {
            name: name.to_owned(),
            kind: DeviceKind::Discrete,
            vendor_id: 0x10de,
            api: Some("vulkan".to_owned()),
            driver: Some("NVIDIA 550".to_owned()),
            bus: bus.map(str::to_owned),
            uuid: None,
            memory_bytes: None,
            memory_used_bytes: None,
            busy_percent: None,
        }
    }

    fn reading(bus: &str, used: u64) -> Device {
        Device {
            uuid: Some(format!("GPU-{bus}")),
            memory_bytes: Some(100),
            memory_used_bytes: Some(used),
            busy_percent: Some(7),
            api: None,
            driver: None,
            ..adapter("read", Some(bus))
        }
    }

    #[test]
    fn a_card_that_both_know_is_one_device() {
        let adapters = vec![adapter("llvmpipe", None), adapter("H100", Some("0000:01:00.0"))];
        let devices = with_readings(adapters, vec![reading("0000:01:00.0", 40), reading("0000:02:00.0", 50)]);
        assert_eq!(devices.len(), 3);
        assert_eq!(devices[0], adapter("llvmpipe", None));
        assert_eq!((&devices[1].name[..], devices[1].memory_used_bytes), ("H100", Some(40)));
        assert_eq!(devices[1].uuid.as_deref(), Some("GPU-0000:01:00.0"));
        assert_eq!(devices[1].driver.as_deref(), Some("NVIDIA 550"));
        assert_eq!((&devices[2].name[..], devices[2].memory_used_bytes), ("read", Some(50)));
    }

    #[test]
    fn old_readings_do_not_stay() {
        let first = with_readings(vec![adapter("H100", Some("0000:01:00.0"))], vec![reading("0000:01:00.0", 40)]);
        assert!(first[0].has_readings());
        let second = with_readings(first, Vec::new());
        assert_eq!((second[0].memory_bytes, second[0].memory_used_bytes), (Some(100), None));
        assert!(!second[0].has_readings());
    }

    #[test]
    fn addresses_are_written_as_the_kernel_does() {
        assert_eq!(bus("00000000:65:00.0").as_deref(), Some("0000:65:00.0"));
        assert_eq!(bus("0000:0A:00.0\n").as_deref(), Some("0000:0a:00.0"));
        assert_eq!(bus("00010000:0a:00.0").as_deref(), Some("10000:0a:00.0"));
        assert_eq!(bus(""), None);
        assert_eq!(bus("65:00.0"), None);
    }
}
