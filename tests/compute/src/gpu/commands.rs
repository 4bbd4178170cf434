//! Recorded commands, which can be submitted again and again.

use std::time::Duration;

use ash::vk;

use super::{Buffer, GROUP, Gpu, Kernel, Timeline};
use crate::error::{During, Error};

/// No work here takes longer, even on an emulated processor.
const LIMIT: Duration = Duration::from_secs(120);

/// A command buffer and the fence of its submission.
#[derive(Debug)]
pub(crate) struct Commands<'g> {
    gpu: &'g Gpu,
    buffer: vk::CommandBuffer,
    fence: vk::Fence,
}

/// A command buffer that is being recorded.
#[derive(Debug)]
pub(crate) struct Recorder<'r> {
    gpu: &'r Gpu,
    buffer: vk::CommandBuffer,
}

impl<'g> Commands<'g> {
    /// Records what `record` does. Buffers and kernels that it names must outlive the work.
    pub(crate) fn record(gpu: &'g Gpu, record: impl FnOnce(&Recorder<'_>)) -> Result<Self, Error> {
        let device = &gpu.device;
        let information = vk::CommandBufferAllocateInfo::default()
            .command_pool(gpu.pool)
            .command_buffer_count(1);
        // SAFETY: the device and the pool are alive, here and below.
        let buffers = unsafe { device.allocate_command_buffers(&information) }
            .during("vkAllocateCommandBuffers")?;
        let mut commands = Self {
            gpu,
            buffer: buffers.first().copied().unwrap_or_default(),
            fence: vk::Fence::null(),
        };
        let information = vk::FenceCreateInfo::default();
        // SAFETY: see above.
        commands.fence =
            unsafe { device.create_fence(&information, None) }.during("vkCreateFence")?;
        let information = vk::CommandBufferBeginInfo::default();
        // SAFETY: the command buffer is new.
        unsafe { device.begin_command_buffer(commands.buffer, &information) }
            .during("vkBeginCommandBuffer")?;
        record(&Recorder {
            gpu,
            buffer: commands.buffer,
        });
        // SAFETY: the command buffer is being recorded.
        unsafe { device.end_command_buffer(commands.buffer) }.during("vkEndCommandBuffer")?;
        Ok(commands)
    }

    /// Submits them. [`Commands::wait`] must come before the next submission.
    pub(crate) fn submit(&self) -> Result<(), Error> {
        let buffers = [self.buffer];
        self.queue(vk::SubmitInfo::default().command_buffers(&buffers))
    }

    /// Submits them to start when `timeline` reaches `start`, and to take it to `end`.
    pub(crate) fn submit_between(
        &self,
        timeline: &Timeline<'_>,
        start: u64,
        end: u64,
    ) -> Result<(), Error> {
        let (buffers, semaphores) = ([self.buffer], [timeline.handle]);
        let (starts, ends) = ([start], [end]);
        let mut values = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(&starts)
            .signal_semaphore_values(&ends);
        let information = vk::SubmitInfo::default()
            .command_buffers(&buffers)
            .wait_semaphores(&semaphores)
            .wait_dst_stage_mask(&[vk::PipelineStageFlags::ALL_COMMANDS])
            .signal_semaphores(&semaphores)
            .push_next(&mut values);
        self.queue(information)
    }

    fn queue(&self, information: vk::SubmitInfo<'_>) -> Result<(), Error> {
        // SAFETY: the commands are recorded and not submitted now; the fence is reset.
        unsafe {
            self.gpu
                .device
                .queue_submit(self.gpu.queue, &[information], self.fence)
        }
        .during("vkQueueSubmit")
    }

    /// Waits for the submission; `what` names it when it does not end.
    pub(crate) fn wait(&self, what: &'static str) -> Result<(), Error> {
        let (device, fences) = (&self.gpu.device, [self.fence]);
        let limit = u64::try_from(LIMIT.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: the fence is this device's.
        match unsafe { device.wait_for_fences(&fences, true, limit) } {
            Err(vk::Result::TIMEOUT) => {
                let seconds = LIMIT.as_secs();
                return Err(Error::Late { what, seconds });
            }
            result => result.during("vkWaitForFences")?,
        }
        // SAFETY: the submission has ended.
        unsafe { device.reset_fences(&fences) }.during("vkResetFences")
    }

    /// Submits them and waits.
    pub(crate) fn run(&self, what: &'static str) -> Result<(), Error> {
        self.submit()?;
        self.wait(what)
    }
}

impl Drop for Commands<'_> {
    fn drop(&mut self) {
        let device = &self.gpu.device;
        // SAFETY: after this wait no work uses the fence or the commands; a lost device has none.
        unsafe {
            let _ = device.device_wait_idle();
            device.destroy_fence(self.fence, None);
            device.free_command_buffers(self.gpu.pool, &[self.buffer]);
        }
    }
}

impl Recorder<'_> {
    /// Runs `kernel` for `elements` elements, a multiple of [`GROUP`].
    pub(crate) fn dispatch(&self, kernel: &Kernel<'_>, elements: usize) {
        let point = vk::PipelineBindPoint::COMPUTE;
        let groups = u32::try_from(elements / GROUP).unwrap_or(u32::MAX);
        let device = &self.gpu.device;
        // SAFETY: the command buffer is being recorded; the kernel's handles are this device's.
        unsafe {
            device.cmd_bind_pipeline(self.buffer, point, kernel.pipeline);
            let sets = [kernel.set];
            device.cmd_bind_descriptor_sets(self.buffer, point, kernel.layout, 0, &sets, &[]);
            device.cmd_dispatch(self.buffer, groups, 1, 1);
        }
    }

    /// Sets every word of `buffer` to `value`.
    pub(crate) fn fill(&self, buffer: &Buffer<'_>, value: u32) {
        let device = &self.gpu.device;
        // SAFETY: the command buffer is being recorded; the buffer is a transfer's destination.
        unsafe {
            device.cmd_fill_buffer(self.buffer, buffer.handle, 0, vk::WHOLE_SIZE, value);
        }
    }

    /// Copies `source` into `target`, which is as large.
    pub(crate) fn copy(&self, source: &Buffer<'_>, target: &Buffer<'_>) {
        let whole = [vk::BufferCopy::default().size(source.bytes().min(target.bytes()))];
        let device = &self.gpu.device;
        // SAFETY: the command buffer is being recorded; the region is inside both buffers.
        unsafe { device.cmd_copy_buffer(self.buffer, source.handle, target.handle, &whole) };
    }

    /// Makes everything before visible to everything after, and to us.
    pub(crate) fn barrier(&self) {
        let barrier = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)];
        let before = vk::PipelineStageFlags::ALL_COMMANDS;
        let after = vk::PipelineStageFlags::ALL_COMMANDS | vk::PipelineStageFlags::HOST;
        let (device, flags) = (&self.gpu.device, vk::DependencyFlags::empty());
        // SAFETY: the command buffer is being recorded.
        unsafe {
            device.cmd_pipeline_barrier(self.buffer, before, after, flags, &barrier, &[], &[]);
        }
    }
}
