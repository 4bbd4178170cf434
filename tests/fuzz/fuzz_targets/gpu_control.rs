//! A guest that sends the GPU any commands: whatever they are, each is answered, nothing breaks
//! what the device promises its renderer, and a reset leaves nothing.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| krun_gpu_vmm::devices::gpu::fuzz::commands(data));
