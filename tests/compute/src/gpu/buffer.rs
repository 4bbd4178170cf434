//! A buffer in memory of its own, mapped for as long as it lives.

use std::slice;

use ash::vk;

use super::Gpu;
use crate::error::{During, Error};

/// Words that the GPU and we see.
#[derive(Debug)]
pub(crate) struct Buffer<'g> {
    gpu: &'g Gpu,
    pub(super) handle: vk::Buffer,
    memory: vk::DeviceMemory,
    address: *mut u32,
    words: usize,
}

impl<'g> Buffer<'g> {
    /// `words` words, whatever is in them.
    pub(crate) fn new(gpu: &'g Gpu, words: usize) -> Result<Self, Error> {
        let information = vk::BufferCreateInfo::default()
            .size((words * size_of::<u32>()) as u64)
            .usage(
                vk::BufferUsageFlags::STORAGE_BUFFER
                    | vk::BufferUsageFlags::TRANSFER_SRC
                    | vk::BufferUsageFlags::TRANSFER_DST,
            );
        // SAFETY: the device is alive, here and below.
        let handle =
            unsafe { gpu.device.create_buffer(&information, None) }.during("vkCreateBuffer")?;
        let mut buffer = Self {
            gpu,
            handle,
            memory: vk::DeviceMemory::null(),
            address: std::ptr::null_mut(),
            words,
        };
        // SAFETY: the buffer is this device's.
        let needs = unsafe { gpu.device.get_buffer_memory_requirements(handle) };
        let information = vk::MemoryAllocateInfo::default()
            .allocation_size(needs.size)
            .memory_type_index(gpu.memory_type);
        // SAFETY: the type is one of the device's.
        buffer.memory =
            unsafe { gpu.device.allocate_memory(&information, None) }.during("vkAllocateMemory")?;
        // SAFETY: the memory is as large as the buffer asked for and not bound to another.
        unsafe { gpu.device.bind_buffer_memory(handle, buffer.memory, 0) }
            .during("vkBindBufferMemory")?;
        let flags = vk::MemoryMapFlags::empty();
        // SAFETY: the type of memory is host-visible, and the memory is not mapped yet.
        buffer.address = unsafe {
            gpu.device
                .map_memory(buffer.memory, 0, vk::WHOLE_SIZE, flags)
        }
        .during("vkMapMemory")?
        .cast();
        Ok(buffer)
    }

    /// What is in it. No submitted work may write it meanwhile.
    pub(crate) fn words(&self) -> &[u32] {
        // SAFETY: the mapping is that long, page-aligned, and lives as long as `self`; the
        // callers here wait for their work first.
        unsafe { slice::from_raw_parts(self.address, self.words) }
    }

    /// The same, to be written. No submitted work may use it meanwhile.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.address, self.words) }
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(self.words()) as u64
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: work that uses the buffer was waited for; null handles are ignored. Freeing
        // memory unmaps it.
        unsafe {
            self.gpu.device.destroy_buffer(self.handle, None);
            self.gpu.device.free_memory(self.memory, None);
        }
    }
}
