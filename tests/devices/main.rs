//! Training through wgpu, with whatever adapter this machine has: a card, or Mesa's software Vulkan, which `ops/test` installs.
//! A correctness test: software is slower than the CPU backend.
//!
//! Where there is no adapter each test says SKIPPED and why, and fails in CI.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command line, which use other parts")]
mod support;

#[path = "../training/cluster.rs"]
#[allow(dead_code, reason = "shared with the tests of training, which use other parts")]
mod cluster;

#[path = "../../actors/training/tests/cluster/mod.rs"]
mod workers;

mod gradients;
mod inventory;
mod jobs;
mod mixed;

use std::io::Write;

use neap::runtime::wire::training::Backend;
use neap::training::device::ComputeDevice;

/// The device that wgpu gives; `None` where there is none.
fn wgpu(test: &str) -> Option<ComputeDevice> {
    match ComputeDevice::open(Backend::Wgpu) {
        Ok(device) => Some(device),
        Err(error) => {
            let ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!ci, "{test}: {error}; ops/test installs mesa-vulkan-drivers and libvulkan1");
            // Not through `eprintln`, which is heard only where a test fails.
            let text = format!("\nSKIPPED {test}: {error}; ops/test installs mesa-vulkan-drivers and libvulkan1\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            None
        }
    }
}
