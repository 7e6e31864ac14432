//! What NVIDIA's library says of its cards. It is loaded where it is installed; where it is not, there is no such card to
//! compute on.

use neap_runtime::wire::device::{DEVICES_MAX, Device, DeviceKind, Inventory};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::bus;

/// NVIDIA's PCI id.
const VENDOR_ID: u32 = 0x10de;

/// What the library answered about one card; `None` for what this card or its driver does not tell.
#[derive(Debug, Default)]
struct Answers {
    name: Option<String>,
    bus: Option<String>,
    uuid: Option<String>,
    /// Total and used bytes.
    memory: Option<(u64, u64)>,
    busy_percent: Option<u32>,
}

/// The cards of this machine.
pub(super) fn read() -> Inventory {
    match Nvml::init().and_then(|library| cards(&library)) {
        Ok(inventory) => inventory,
        Err(NvmlError::LibloadingError(_)) => Inventory::default(),
        Err(error) => Inventory { devices: Vec::new(), remarks: vec![format!("NVIDIA's library: {error}")] },
    }
}

fn cards(library: &Nvml) -> Result<Inventory, NvmlError> {
    let driver = library.sys_driver_version().ok();
    let mut inventory = Inventory::default();
    for index in 0..library.device_count()?.min(DEVICES_MAX as u32) {
        match library.device_by_index(index) {
            Ok(card) => {
                let answers = Answers {
                    name: card.name().ok(),
                    bus: card.pci_info().ok().map(|pci| pci.bus_id),
                    uuid: card.uuid().ok(),
                    memory: card.memory_info().ok().map(|memory| (memory.total, memory.used)),
                    busy_percent: card.utilization_rates().ok().map(|rates| rates.gpu),
                };
                inventory.devices.push(device(answers, driver.as_deref()));
            }
            // A card that fell off the bus keeps its number.
            Err(error) => inventory.remarks.push(format!("NVIDIA's library, card {index}: {error}")),
        }
    }
    Ok(inventory)
}

fn device(answers: Answers, driver: Option<&str>) -> Device {
    let (memory_bytes, memory_used_bytes) = answers.memory.unzip();
    Device {
        name: answers.name.unwrap_or_else(|| "a card of NVIDIA's".to_owned()),
        kind: DeviceKind::Discrete,
        vendor_id: VENDOR_ID,
        api: None,
        driver: driver.map(|version| format!("NVIDIA {version}")),
        bus: answers.bus.as_deref().and_then(bus),
        uuid: answers.uuid,
        memory_bytes,
        memory_used_bytes,
        busy_percent: answers.busy_percent.and_then(|percent| u8::try_from(percent).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_a_device() {
        let answers = Answers {
            name: Some("NVIDIA H100 PCIe".to_owned()),
            bus: Some("00000000:65:00.0".to_owned()),
            uuid: Some("GPU-5a".to_owned()),
            memory: Some((85_520_809_984, 1_000)),
            busy_percent: Some(99),
        };
        let device = device(answers, Some("550.54"));
        assert_eq!((device.kind, device.vendor_id), (DeviceKind::Discrete, 0x10de));
        assert_eq!((device.bus.as_deref(), device.driver.as_deref()), (Some("0000:65:00.0"), Some("NVIDIA 550.54")));
        assert_eq!((device.memory_bytes, device.memory_used_bytes), (Some(85_520_809_984), Some(1_000)));
        assert_eq!(device.busy_percent, Some(99));
    }

    #[test]
    fn a_card_that_tells_nothing_is_a_card_all_the_same() {
        let device = device(Answers { busy_percent: Some(1_000), ..Answers::default() }, None);
        assert_eq!((&device.name[..], device.busy_percent, device.memory_bytes), ("a card of NVIDIA's", None, None));
        assert!(device.is_gpu() && !device.has_readings());
    }
}
