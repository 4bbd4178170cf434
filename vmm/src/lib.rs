//! The library that runs one microVM. It knows nothing of OCI: its caller (shim/) hands it open
//! files and numbers, and gets a guest, a vsock and a console back.

pub mod devices;
pub mod memory;
pub mod virtio;
