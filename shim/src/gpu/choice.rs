//! Which of the host's Vulkan devices serve: GPUs, and only where there is none a rasteriser.
//!
//! The choice is put into force by the Vulkan loader's environment: this process' own, which the
//! render server and the VMM's GPU thread inherit.

use std::env;

use krun_gpu_vmm::devices::gpu::virgl::Library;

use super::GpuError;
use super::probe::{DeviceKind, HostGpu, Report};
use crate::config::GpuPolicy;

/// Manifests of drivers that are rasterisers: lavapipe's and SwiftShader's.
const RASTERISERS: &str = "lvp_icd*,vk_swiftshader_icd*";

/// What serves.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Choice {
    /// The devices, the loader's first one first; never empty.
    pub(crate) devices: Vec<HostGpu>,
    /// They are rasterisers.
    pub(crate) software: bool,
    /// Rasterisers are there, and must not serve.
    hide_rasterisers: bool,
}

impl Choice {
    /// Chooses among what was found.
    pub(crate) fn new(report: Report) -> Result<Self, GpuError> {
        let (rasterisers, gpus): (Vec<_>, Vec<_>) = report
            .devices
            .into_iter()
            .partition(|device| device.kind == DeviceKind::Cpu);
        let hide_rasterisers = !gpus.is_empty() && !rasterisers.is_empty();
        let software = gpus.is_empty();
        let devices = if software { rasterisers } else { gpus };
        if devices.is_empty() {
            return Err(GpuError::NoDriver {
                hint: report
                    .error
                    .map_or_else(String::new, |error| format!(" ({error})")),
            });
        }
        Ok(Self {
            devices,
            software,
            hide_rasterisers,
        })
    }

    /// The names of the devices that serve.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect();
        names.join(", ")
    }

    /// The devices with their drivers and versions, in words.
    pub(crate) fn describe(&self) -> String {
        let words: Vec<String> = self
            .devices
            .iter()
            .map(|device| {
                let HostGpu {
                    name, driver, api, ..
                } = device;
                format!("{name} (driver {driver}, Vulkan {api})")
            })
            .collect();
        words.join(", ")
    }

    /// Whether virglrenderer is new enough for the drivers that serve.
    pub(crate) fn check_library(&self, library: &Library) -> Result<(), GpuError> {
        let nvidia = self.devices.iter().find(|device| device.is_nvidia());
        match nvidia {
            Some(device) if !library.serves_nvidia() => Err(GpuError::TooOldForNvidia {
                name: device.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Makes the Vulkan loader of this process and its children leave out what must not serve.
    pub(super) fn use_drivers(&self) {
        if self.hide_rasterisers && env::var_os("VK_LOADER_DRIVERS_DISABLE").is_none() {
            set("VK_LOADER_DRIVERS_DISABLE", RASTERISERS);
        }
    }
}

/// Makes the Vulkan loader use the manifests that the host's configuration names, if it does.
pub(crate) fn use_driver_files(policy: &GpuPolicy) {
    if policy.driver_files.is_empty() {
        return;
    }
    let files: Vec<_> = policy
        .driver_files
        .iter()
        .map(|path| path.as_os_str().to_string_lossy())
        .collect();
    let list = files.join(":");
    set("VK_DRIVER_FILES", &list);
    // The loader's older name.
    set("VK_ICD_FILENAMES", &list);
}

fn set(name: &str, value: &str) {
    // SAFETY: `create` and `check` have no second thread: nobody reads the environment meanwhile.
    unsafe { env::set_var(name, value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: DeviceKind, driver: &str) -> HostGpu {
        HostGpu {
            name: name.to_owned(),
            kind,
            driver: driver.to_owned(),
            api: "1.3.0".to_owned(),
        }
    }

    fn choose(devices: Vec<HostGpu>) -> Result<Choice, GpuError> {
        Choice::new(Report {
            devices,
            error: None,
        })
    }

    #[test]
    fn a_rasteriser_serves_only_where_nothing_else_does() {
        let llvmpipe = || device("llvmpipe", DeviceKind::Cpu, "llvmpipe");
        let alone = choose(vec![llvmpipe()]).unwrap();
        assert!(alone.software && !alone.hide_rasterisers);
        let radeon = device("Radeon", DeviceKind::Discrete, "radv");
        let both = choose(vec![llvmpipe(), radeon.clone()]).unwrap();
        assert!(!both.software && both.hide_rasterisers);
        assert_eq!(both.devices, [radeon]);
    }

    #[test]
    fn no_driver_is_an_error_that_says_what_to_install() {
        let error = Choice::new(Report {
            devices: Vec::new(),
            error: Some("no loader".to_owned()),
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("mesa-vulkan-drivers"), "{error}");
        assert!(error.ends_with("(no loader)"), "{error}");
    }
}
