//! One of the kernels of kernels.wgsl, bound to its two buffers.

use std::ffi::CStr;

use ash::vk;

use super::{Buffer, Gpu};
use crate::error::{During, Error};

/// Invocations in a workgroup, for all kernels.
pub(crate) const GROUP: usize = 64;

const KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.spv"));

/// A pipeline and what it works on.
#[derive(Debug)]
pub(crate) struct Kernel<'g> {
    gpu: &'g Gpu,
    pub(super) pipeline: vk::Pipeline,
    pub(super) layout: vk::PipelineLayout,
    pub(super) set: vk::DescriptorSet,
    module: vk::ShaderModule,
    set_layout: vk::DescriptorSetLayout,
    pool: vk::DescriptorPool,
}

impl<'g> Kernel<'g> {
    /// The kernel `name`, which reads `input` and writes `output`. Both must outlive its work.
    pub(crate) fn new(
        gpu: &'g Gpu,
        name: &CStr,
        input: &Buffer<'g>,
        output: &Buffer<'g>,
    ) -> Result<Self, Error> {
        let mut kernel = Self {
            gpu,
            pipeline: vk::Pipeline::null(),
            layout: vk::PipelineLayout::null(),
            set: vk::DescriptorSet::null(),
            module: vk::ShaderModule::null(),
            set_layout: vk::DescriptorSetLayout::null(),
            pool: vk::DescriptorPool::null(),
        };
        kernel.bind(&[input.handle, output.handle])?;
        kernel.compile(name)?;
        Ok(kernel)
    }

    /// Makes the descriptor set with `buffers` in binding 0, 1, and so on.
    fn bind(&mut self, buffers: &[vk::Buffer; 2]) -> Result<(), Error> {
        let device = &self.gpu.device;
        let bindings = [0, 1].map(|binding| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(binding)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        });
        let information = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: the device is alive and the structures outlive the calls, here and below.
        self.set_layout = unsafe { device.create_descriptor_set_layout(&information, None) }
            .during("vkCreateDescriptorSetLayout")?;
        let sizes = [vk::DescriptorPoolSize::default()
            .ty(vk::DescriptorType::STORAGE_BUFFER)
            .descriptor_count(2)];
        let information = vk::DescriptorPoolCreateInfo::default()
            .max_sets(1)
            .pool_sizes(&sizes);
        // SAFETY: see above.
        self.pool = unsafe { device.create_descriptor_pool(&information, None) }
            .during("vkCreateDescriptorPool")?;
        let layouts = [self.set_layout];
        let information = vk::DescriptorSetAllocateInfo::default()
            .descriptor_pool(self.pool)
            .set_layouts(&layouts);
        // SAFETY: the pool has room for this one set.
        let sets = unsafe { device.allocate_descriptor_sets(&information) }
            .during("vkAllocateDescriptorSets")?;
        self.set = sets.first().copied().unwrap_or_default();
        let whole = buffers.map(|buffer| {
            [vk::DescriptorBufferInfo::default()
                .buffer(buffer)
                .range(vk::WHOLE_SIZE)]
        });
        for (binding, buffer) in (0..).zip(&whole) {
            let write = vk::WriteDescriptorSet::default()
                .dst_set(self.set)
                .dst_binding(binding)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .buffer_info(buffer);
            // SAFETY: no work uses the set yet; the binding is in its layout.
            unsafe { device.update_descriptor_sets(&[write], &[]) };
        }
        Ok(())
    }

    fn compile(&mut self, name: &CStr) -> Result<(), Error> {
        let device = &self.gpu.device;
        let code: Vec<u32> = KERNELS
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let information = vk::ShaderModuleCreateInfo::default().code(&code);
        // SAFETY: naga validated the module.
        self.module = unsafe { device.create_shader_module(&information, None) }
            .during("vkCreateShaderModule")?;
        let layouts = [self.set_layout];
        let information = vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts);
        // SAFETY: the set layout is alive.
        self.layout = unsafe { device.create_pipeline_layout(&information, None) }
            .during("vkCreatePipelineLayout")?;
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(self.module)
            .name(name);
        let information = [vk::ComputePipelineCreateInfo::default()
            .stage(stage)
            .layout(self.layout)];
        let cache = vk::PipelineCache::null();
        // SAFETY: the module has an entry point of that name, which uses these two bindings.
        let pipelines = unsafe { device.create_compute_pipelines(cache, &information, None) }
            .map_err(|(_, error)| error)
            .during("vkCreateComputePipelines")?;
        self.pipeline = pipelines.first().copied().unwrap_or_default();
        Ok(())
    }
}

impl Drop for Kernel<'_> {
    fn drop(&mut self) {
        let device = &self.gpu.device;
        // SAFETY: work that uses the pipeline was waited for; null handles are ignored. The set
        // goes with its pool.
        unsafe {
            device.destroy_pipeline(self.pipeline, None);
            device.destroy_pipeline_layout(self.layout, None);
            device.destroy_shader_module(self.module, None);
            device.destroy_descriptor_pool(self.pool, None);
            device.destroy_descriptor_set_layout(self.set_layout, None);
        }
    }
}
