//! The Vulkan device that everything here runs on: the first that the loader names.

mod buffer;
mod commands;
mod kernel;
mod timeline;

use std::{ffi::CStr, fmt};

use ash::vk;

pub(crate) use buffer::Buffer;
pub(crate) use commands::Commands;
pub(crate) use kernel::{GROUP, Kernel};
pub(crate) use timeline::Timeline;

use crate::error::{During, Error};

/// An open device with one queue.
pub(crate) struct Gpu {
    /// Holds libvulkan; dropped after everything that came out of it.
    _entry: ash::Entry,
    instance: ash::Instance,
    device: ash::Device,
    queue: vk::Queue,
    pool: vk::CommandPool,
    memory_type: u32,
    description: String,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.description)
    }
}

impl fmt::Display for Gpu {
    /// Its name, its driver and the version of Vulkan that it speaks.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.description)
    }
}

impl Gpu {
    /// Opens the first device.
    pub(crate) fn open() -> Result<Self, Error> {
        // SAFETY: libvulkan's initialisers have no preconditions.
        let entry = unsafe { ash::Entry::load() }?;
        let application = vk::ApplicationInfo::default()
            .application_name(c"krun-gpu-compute")
            .api_version(vk::API_VERSION_1_2);
        let information = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: `information` and what it points to outlive the call.
        let instance =
            unsafe { entry.create_instance(&information, None) }.during("vkCreateInstance")?;
        match Self::on(entry, &instance) {
            Ok(gpu) => Ok(gpu),
            Err(error) => {
                // SAFETY: nothing that was made of the instance is left.
                unsafe { instance.destroy_instance(None) };
                Err(error)
            }
        }
    }

    fn on(entry: ash::Entry, instance: &ash::Instance) -> Result<Self, Error> {
        // SAFETY: `instance` is alive.
        let devices = unsafe { instance.enumerate_physical_devices() }
            .during("vkEnumeratePhysicalDevices")?;
        let physical = *devices.first().ok_or(Error::NoDevice)?;
        let (name, description) = describe(instance, physical);
        let family = compute_family(instance, physical).ok_or(Error::NoQueue {
            device: name.clone(),
        })?;
        let memory_type =
            coherent_memory(instance, physical).ok_or(Error::NoMemory { device: name })?;
        let queues = [vk::DeviceQueueCreateInfo::default()
            .queue_family_index(family)
            .queue_priorities(&[1.0])];
        let mut features = vk::PhysicalDeviceVulkan12Features::default().timeline_semaphore(true);
        let information = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .push_next(&mut features);
        // SAFETY: `physical` is one of this instance's; the structures outlive the call.
        let device = unsafe { instance.create_device(physical, &information, None) }
            .during("vkCreateDevice")?;
        // SAFETY: the device was made with one queue of this family.
        let queue = unsafe { device.get_device_queue(family, 0) };
        let information = vk::CommandPoolCreateInfo::default().queue_family_index(family);
        // SAFETY: the family is the queue's.
        let pool = match unsafe { device.create_command_pool(&information, None) } {
            Ok(pool) => pool,
            Err(source) => {
                // SAFETY: nothing that was made of the device is left.
                unsafe { device.destroy_device(None) };
                let call = "vkCreateCommandPool";
                return Err(Error::Call { call, source });
            }
        };
        Ok(Self {
            _entry: entry,
            instance: instance.clone(),
            device,
            queue,
            pool,
            memory_type,
            description,
        })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: buffers, kernels and commands borrow `self`, so they are gone; the queue is
        // waited for.
        unsafe {
            // A lost device cannot be waited for, and needs not be.
            let _ = self.device.device_wait_idle();
            self.device.destroy_command_pool(self.pool, None);
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// The device's name, and a line that tells which driver it has.
fn describe(instance: &ash::Instance, physical: vk::PhysicalDevice) -> (String, String) {
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
    // SAFETY: the structures outlive the call; the driver's one is of Vulkan 1.2.
    unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
    let version = properties.properties.api_version;
    let name = text(&properties.properties.device_name);
    let description = format!(
        "{name}, driver {} {}, Vulkan {}.{}.{}",
        text(&driver.driver_name),
        text(&driver.driver_info),
        vk::api_version_major(version),
        vk::api_version_minor(version),
        vk::api_version_patch(version),
    );
    (name, description)
}

fn text(characters: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = characters
        .iter()
        .map(|character| character.cast_unsigned())
        .collect();
    CStr::from_bytes_until_nul(&bytes)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn compute_family(instance: &ash::Instance, physical: vk::PhysicalDevice) -> Option<u32> {
    // SAFETY: `physical` is one of this instance's.
    let families = unsafe { instance.get_physical_device_queue_family_properties(physical) };
    let index = families
        .iter()
        .position(|family| family.queue_flags.contains(vk::QueueFlags::COMPUTE))?;
    u32::try_from(index).ok()
}

/// A type of memory that the host can write and read without flushes. Cached memory first: a
/// result is read back from it.
fn coherent_memory(instance: &ash::Instance, physical: vk::PhysicalDevice) -> Option<u32> {
    use vk::MemoryPropertyFlags as Flags;
    // SAFETY: `physical` is one of this instance's.
    let memory = unsafe { instance.get_physical_device_memory_properties(physical) };
    let coherent = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
    let index = [coherent | Flags::HOST_CACHED, coherent]
        .iter()
        .find_map(|wanted| {
            memory
                .memory_types_as_slice()
                .iter()
                .position(|kind| kind.property_flags.contains(*wanted))
        })?;
    u32::try_from(index).ok()
}
