//! A guest that sends a disk any requests: what is parsed lies inside the disk.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| krun_gpu_vmm::devices::block::fuzz::request(data));
