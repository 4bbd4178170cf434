//! Asks the Vulkan loader for its devices (Vulkan 1.4, chapters 4 and 5). Runs in the probe's
//! process alone.

use std::ffi::CStr;

use ash::{Entry, Instance, vk};

use super::{DeviceKind, HostGpu};

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum VulkanError {
    /// No loader.
    #[error("libvulkan.so.1 cannot be loaded: install libvulkan1 (vulkan-loader elsewhere)")]
    Loader,
    /// The loader found no driver, or a call failed.
    #[error("{call}: {result}")]
    Call {
        /// The call.
        call: &'static str,
        /// Its result.
        result: vk::Result,
    },
}

/// The devices of all drivers.
pub(super) fn devices() -> Result<Vec<HostGpu>, VulkanError> {
    let failed = |call| move |result| VulkanError::Call { call, result };
    // SAFETY: the host's own Vulkan loader, in a process that does nothing else.
    let entry = unsafe { Entry::load() }.map_err(|_| VulkanError::Loader)?;
    // The render server asks for 1.1 as well.
    let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_1);
    let information = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: the structures live through the call.
    let instance =
        unsafe { entry.create_instance(&information, None) }.map_err(failed("vkCreateInstance"))?;
    // SAFETY: the instance lives, and nothing made of it is in use when it is destroyed.
    let devices = unsafe { instance.enumerate_physical_devices() }
        .map_err(failed("vkEnumeratePhysicalDevices"))
        .map(|devices| {
            devices
                .into_iter()
                .map(|device| describe(&instance, device))
                .collect()
        });
    // SAFETY: as above.
    unsafe { instance.destroy_instance(None) };
    devices
}

fn describe(instance: &Instance, device: vk::PhysicalDevice) -> HostGpu {
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    // SAFETY: the instance and its device live through the calls; what a device of Vulkan 1.1
    // does not know it leaves alone.
    let plain = unsafe { instance.get_physical_device_properties(device) };
    if plain.api_version >= vk::API_VERSION_1_1 {
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: as above.
        unsafe { instance.get_physical_device_properties2(device, &mut properties) };
    }
    let version = plain.api_version;
    HostGpu {
        name: text(plain.device_name_as_c_str()),
        kind: match plain.device_type {
            vk::PhysicalDeviceType::DISCRETE_GPU => DeviceKind::Discrete,
            vk::PhysicalDeviceType::INTEGRATED_GPU => DeviceKind::Integrated,
            vk::PhysicalDeviceType::VIRTUAL_GPU => DeviceKind::Virtual,
            vk::PhysicalDeviceType::CPU => DeviceKind::Cpu,
            _ => DeviceKind::Other,
        },
        driver: text(driver.driver_name_as_c_str()),
        api: format!(
            "{}.{}.{}",
            vk::api_version_major(version),
            vk::api_version_minor(version),
            vk::api_version_patch(version)
        ),
    }
}

fn text<E>(name: Result<&CStr, E>) -> String {
    name.map_or_else(
        |_| String::new(),
        |name| name.to_string_lossy().into_owned(),
    )
}
