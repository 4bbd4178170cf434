//! A guest that sends frames with any headers: what is let through points into its frame.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| krun_gpu_vmm::devices::net::fuzz::header(data));
