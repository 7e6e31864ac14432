//! What a node can compute on. A short-lived child tells its agent as JSON, the agent tells the control plane.

use serde::{Deserialize, Serialize};

/// Devices of one node that are spoken of; the others are left out.
pub const DEVICES_MAX: usize = 64;

/// Characters of a text about a device; the rest is left out.
const TEXT_CHARS_MAX: usize = 200;

/// What a child found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The devices.
    pub devices: Vec<Device>,
    /// What could not be found out, and why.
    pub remarks: Vec<String>,
}

/// A device, with its last readings where it has any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its model.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// The maker's PCI id, or 0.
    pub vendor_id: u32,
    /// Through which interface wgpu reaches it (`vulkan`, `metal`, …), where wgpu was asked and reaches it.
    pub api: Option<String>,
    /// Its driver, with the version where that is known.
    pub driver: Option<String>,
    /// Its PCI address, as in `0000:01:00.0`.
    pub bus: Option<String>,
    /// The id that its maker gave it.
    pub uuid: Option<String>,
    /// Its memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// How much of that is used, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// The share of the time in which it computed lately, in percent.
    pub busy_percent: Option<u8>,
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor, with the machine's memory.
    Integrated,
    /// A card of a virtual machine.
    Virtual,
    /// The processor itself, behind the interface of a card.
    Cpu,
    /// A card of a kind that is not known.
    Unknown,
}

impl DeviceKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Cpu => "cpu",
            Self::Unknown => "unknown",
        }
    }
}

impl Device {
    /// Whether it counts as a GPU. What only makes the processor look like a card does not.
    pub fn is_gpu(&self) -> bool {
        self.kind != DeviceKind::Cpu
    }

    /// Whether its memory and its use can be read.
    pub fn has_readings(&self) -> bool {
        self.memory_used_bytes.is_some() || self.busy_percent.is_some()
    }
}

/// As many devices, with texts as long, as one node may have.
pub fn limited(mut devices: Vec<Device>) -> Vec<Device> {
    let cut = |text: &mut String| {
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(end);
        }
    };
    devices.truncate(DEVICES_MAX);
    for device in &mut devices {
        cut(&mut device.name);
        [&mut device.api, &mut device.driver, &mut device.bus, &mut device.uuid].into_iter().flatten().for_each(cut);
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_devices_has_a_limit() {
        let device = Device {
            name: "ä".repeat(1_000),
            kind: DeviceKind::Cpu,
            vendor_id: 0,
            api: None,
            driver: Some("d".repeat(201)),
            bus: Some("0000:01:00.0".to_owned()),
            uuid: None,
            memory_bytes: None,
            memory_used_bytes: None,
            busy_percent: None,
        };
        let devices = limited(vec![device; 100]);
        assert_eq!(devices.len(), DEVICES_MAX);
        assert_eq!(devices[0].name, "ä".repeat(200));
        assert_eq!(devices[0].driver, Some("d".repeat(200)));
        assert_eq!(devices[0].bus.as_deref(), Some("0000:01:00.0"));
    }
}
