//! A guest that sends any control commands to a NIC: each is refused, with an answer of one byte or
//! none.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| krun_gpu_vmm::devices::net::fuzz::command(data));
