//! A timeline semaphore, which the GPU and we move on and wait for.

use std::time::Duration;

use ash::vk;

use super::Gpu;
use crate::error::{During, Error};

/// A semaphore whose value only grows, from 0.
#[derive(Debug)]
pub(crate) struct Timeline<'g> {
    gpu: &'g Gpu,
    pub(super) handle: vk::Semaphore,
}

impl<'g> Timeline<'g> {
    /// One that stands at 0.
    pub(crate) fn new(gpu: &'g Gpu) -> Result<Self, Error> {
        let mut kind =
            vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
        let information = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the device was made with timeline semaphores.
        let handle = unsafe { gpu.device.create_semaphore(&information, None) }
            .during("vkCreateSemaphore")?;
        Ok(Self { gpu, handle })
    }

    /// Where it stands.
    pub(crate) fn value(&self) -> Result<u64, Error> {
        // SAFETY: the semaphore is a timeline.
        unsafe { self.gpu.device.get_semaphore_counter_value(self.handle) }
            .during("vkGetSemaphoreCounterValue")
    }

    /// Takes it to `value`, from here.
    pub(crate) fn signal(&self, value: u64) -> Result<(), Error> {
        let information = vk::SemaphoreSignalInfo::default()
            .semaphore(self.handle)
            .value(value);
        // SAFETY: the callers here signal greater values only.
        unsafe { self.gpu.device.signal_semaphore(&information) }.during("vkSignalSemaphore")
    }

    /// Whether it reaches `value` within `limit`.
    pub(crate) fn reaches(&self, value: u64, limit: Duration) -> Result<bool, Error> {
        let (semaphores, values) = ([self.handle], [value]);
        let information = vk::SemaphoreWaitInfo::default()
            .semaphores(&semaphores)
            .values(&values);
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: the semaphore is a timeline.
        match unsafe { self.gpu.device.wait_semaphores(&information, limit) } {
            Err(vk::Result::TIMEOUT) => Ok(false),
            result => result.during("vkWaitSemaphores").map(|()| true),
        }
    }
}

impl Drop for Timeline<'_> {
    fn drop(&mut self) {
        // SAFETY: work that uses it was waited for.
        unsafe { self.gpu.device.destroy_semaphore(self.handle, None) };
    }
}
