//! `neap devices`: what this machine can compute on. Also what a child of the node agent is asked.

use std::time::Duration;

use neap_agent::devices::{readings, with_readings};
use neap_runtime::wire::device::{Device, Inventory};

use crate::http::body::DeviceBody;

use super::Shell;
use super::args::{Format, InventoryArgs};
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone, harmless};

/// How long a child may live whose agent is not there any more to end it.
const CHILD_LIFE_MAX: Duration = Duration::from_secs(120);

/// Where a process gets its exit code from that lived too long: as of coreutils' `timeout`.
const LATE_EXIT: i32 = 124;

/// Bytes of a GiB.
const GIB: f64 = (1u64 << 30) as f64;

pub(super) fn list(shell: &Shell) -> Result<Exit, CliError> {
    let Inventory { devices, remarks } = all();
    remarks.iter().for_each(|remark| shell.output.remark(&harmless(remark)));
    if cfg!(not(feature = "wgpu")) {
        shell.output.remark("this program was built without the feature `wgpu`: only cards with readings are shown");
    }
    let devices: Vec<DeviceBody> = devices.into_iter().map(DeviceBody::from).collect();
    if devices.is_empty() && shell.output.format == Format::Table {
        shell.output.remark("no devices but the processor");
        return Ok(Exit::Ok);
    }
    let mut listing = Listing::new(&["DEVICE", "KIND", "API", "DRIVER", "BUS", "MEMORY", "BUSY"]);
    for device in &devices {
        listing.row(row(device).map(|text| (text, Tone::Plain)));
    }
    shell.output.list(&devices, &listing)?;
    Ok(Exit::Ok)
}

/// Prints what there is, for the node agent.
pub(super) fn inventory(shell: &Shell, args: &InventoryArgs) -> Result<Exit, CliError> {
    // The agent ends its child in time; this is for a driver that hangs after the agent was killed.
    std::thread::spawn(|| {
        std::thread::sleep(CHILD_LIFE_MAX);
        std::process::exit(LATE_EXIT);
    });
    let inventory = if args.readings { readings() } else { all() };
    let text = serde_json::to_string(&inventory).map_err(|error| CliError::Output(error.into()))?;
    shell.output.text(&format!("{text}\n"))?;
    Ok(Exit::Ok)
}

/// Adapters with readings, and cards that have only readings.
fn all() -> Inventory {
    let Inventory { devices, mut remarks } = readings();
    let adapters = adapters(&mut remarks);
    Inventory { devices: with_readings(adapters, devices), remarks }
}

#[cfg(feature = "wgpu")]
fn adapters(remarks: &mut Vec<String>) -> Vec<Device> {
    crate::adapters::all().unwrap_or_else(|error| {
        remarks.push(format!("wgpu: {error}"));
        Vec::new()
    })
}

#[cfg(not(feature = "wgpu"))]
fn adapters(_: &mut Vec<String>) -> Vec<Device> {
    Vec::new()
}

fn row(device: &DeviceBody) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        device.name.clone(),
        device.kind.clone(),
        or_dash(device.api.clone()),
        or_dash(device.driver.clone()),
        or_dash(device.bus.clone()),
        or_dash(memory(&[device])),
        or_dash(busy(&[device])),
    ]
}

/// The GPUs of a node in a few words; `-` where it has none.
pub(super) fn gpus(devices: &[DeviceBody]) -> String {
    let gpus: Vec<&DeviceBody> = devices.iter().filter(|device| device.gpu).collect();
    let mut models: Vec<(&str, usize)> = Vec::new();
    for gpu in &gpus {
        match models.iter_mut().find(|(name, _)| *name == gpu.name) {
            Some((_, count)) => *count += 1,
            None => models.push((&gpu.name, 1)),
        }
    }
    if models.is_empty() {
        return "-".to_owned();
    }
    let models = models.iter().map(|(name, count)| format!("{count}x {name}")).collect::<Vec<_>>().join(" + ");
    [Some(models), memory(&gpus), busy(&gpus)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Used and whole memory, as far as it is known.
fn memory(devices: &[&DeviceBody]) -> Option<String> {
    let sum = |bytes: fn(&DeviceBody) -> Option<u64>| {
        let known: Vec<u64> = devices.iter().filter_map(|device| bytes(device)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<u64>() as f64 / GIB)
    };
    match (sum(|device| device.memory_used_bytes), sum(|device| device.memory_bytes)) {
        (Some(used), Some(all)) => Some(format!("{used:.1} of {all:.1} GiB")),
        (None, Some(all)) => Some(format!("{all:.1} GiB")),
        (Some(used), None) => Some(format!("{used:.1} GiB used")),
        (None, None) => None,
    }
}

/// The mean of those that say it.
fn busy(devices: &[&DeviceBody]) -> Option<String> {
    let known: Vec<u32> = devices.iter().filter_map(|device| device.busy_percent.map(u32::from)).collect();
    let mean = known.iter().sum::<u32>().checked_div(known.len() as u32)?;
    Some(format!("{mean}% busy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, gpu: bool, used: Option<u64>, busy: Option<u8>) -> DeviceBody {
        DeviceBody {
            name: name.to_owned(),
            kind: "discrete".to_owned(),
            gpu,
            vendor_id: 0,
            api: None,
            driver: None,
            bus: None,
            uuid: None,
            memory_bytes: used.map(|_| 80 << 30),
            memory_used_bytes: used,
            busy_percent: busy,
        }
    }

    #[test]
    fn the_gpus_of_a_node_are_summed_up_and_software_is_none() {
        let software = device("llvmpipe", false, None, None);
        assert_eq!(gpus(std::slice::from_ref(&software)), "-");
        let two =
            [device("H100", true, Some(1 << 30), Some(90)), software, device("H100", true, Some(3 << 29), Some(51))];
        assert_eq!(gpus(&two), "2x H100, 2.5 of 160.0 GiB, 70% busy");
        let mixed = [device("A10G", true, None, None), device("L4", true, None, None)];
        assert_eq!(gpus(&mixed), "1x A10G + 1x L4");
    }
}
