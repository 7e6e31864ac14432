//! What the kernel's files say of graphics cards. AMD's driver shows memory and use there; a card that shows neither is left to
//! wgpu and to NVIDIA's library.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use neap_runtime::wire::device::{DEVICES_MAX, Device, DeviceKind};

use super::bus;

/// What is read of one file; those of the kernel have a line.
const FILE_BYTES_MAX: u64 = 4_096;

/// The cards in a folder such as `/sys/class/drm`, in the order of their numbers. None where it cannot be read.
pub(super) fn read(folder: &Path) -> Vec<Device> {
    let number = |name: &str| name.strip_prefix("card")?.parse::<u32>().ok();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut cards: Vec<_> =
        entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    cards.sort();
    cards.into_iter().take(DEVICES_MAX).filter_map(|(_, path)| card(&path.join("device"))).collect()
}

fn card(folder: &Path) -> Option<Device> {
    let line = |file: &str| text(&folder.join(file)).map(|text| text.trim().to_owned()).filter(|line| !line.is_empty());
    let number = |file: &str| line(file)?.parse::<u64>().ok();
    let memory_bytes = number("mem_info_vram_total");
    let memory_used_bytes = number("mem_info_vram_used");
    let busy_percent = number("gpu_busy_percent").and_then(|percent| u8::try_from(percent).ok());
    if memory_bytes.is_none() && busy_percent.is_none() {
        return None;
    }
    let events = text(&folder.join("uevent")).unwrap_or_default();
    let event = |key: &str| events.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let id = || event("PCI_ID").map_or_else(|| "a card without an id".to_owned(), |id| format!("PCI {id}"));
    Some(Device {
        name: line("product_name").unwrap_or_else(id),
        kind: DeviceKind::Unknown,
        vendor_id: line("vendor").and_then(|id| u32::from_str_radix(id.strip_prefix("0x")?, 16).ok()).unwrap_or(0),
        api: None,
        driver: event("DRIVER").map(str::to_owned),
        bus: event("PCI_SLOT_NAME").and_then(bus),
        uuid: line("unique_id"),
        memory_bytes,
        memory_used_bytes,
        busy_percent,
    })
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, card: &str, files: &[(&str, &str)]) {
        let device = folder.join(card).join("device");
        fs::create_dir_all(&device).unwrap();
        files.iter().for_each(|(name, text)| fs::write(device.join(name), text).unwrap());
    }

    #[test]
    fn a_card_of_amd_is_read_and_others_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let uevent = "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:73BF\nPCI_SLOT_NAME=0000:03:00.0\n";
        let amd = [
            ("vendor", "0x1002\n"),
            ("uevent", uevent),
            ("unique_id", "9a1c2b3d4e5f6071\n"),
            ("mem_info_vram_total", "17163091968\n"),
            ("mem_info_vram_used", "1048576\n"),
            ("gpu_busy_percent", "37\n"),
        ];
        put(folder.path(), "card10", &[("mem_info_vram_total", "5"), ("product_name", "Instinct MI210\n")]);
        put(folder.path(), "card1", &amd);
        put(folder.path(), "card0", &[("vendor", "0x8086\n"), ("uevent", "DRIVER=i915\n")]);
        put(folder.path(), "card1-DP-1", &amd);
        put(folder.path(), "renderD128", &amd);
        let cards = read(folder.path());
        assert_eq!(cards.len(), 2);
        let expected = Device {
            name: "PCI 1002:73BF".to_owned(),
            kind: DeviceKind::Unknown,
            vendor_id: 0x1002,
            api: None,
            driver: Some("amdgpu".to_owned()),
            bus: Some("0000:03:00.0".to_owned()),
            uuid: Some("9a1c2b3d4e5f6071".to_owned()),
            memory_bytes: Some(17_163_091_968),
            memory_used_bytes: Some(1_048_576),
            busy_percent: Some(37),
        };
        assert_eq!(cards[0], expected);
        assert_eq!((&cards[1].name[..], cards[1].busy_percent), ("Instinct MI210", None));
    }

    #[test]
    fn nonsense_is_no_reading() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "card0", &[("mem_info_vram_total", "much"), ("gpu_busy_percent", "-1")]);
        put(folder.path(), "card1", &[("mem_info_vram_total", "8"), ("gpu_busy_percent", "4711"), ("vendor", "AMD")]);
        let cards = read(folder.path());
        assert_eq!(cards.len(), 1);
        assert_eq!((cards[0].memory_bytes, cards[0].busy_percent, cards[0].vendor_id), (Some(8), None, 0));
        assert_eq!(cards[0].name, "a card without an id");
        assert!(read(&folder.path().join("nowhere")).is_empty());
    }
}
