//! virtio: the contract between a device and its transport, and the MMIO transport.

pub(crate) mod device;
pub(crate) mod mmio;

pub(crate) use device::copy_config;
pub use device::{ActivateError, Activation, ActiveQueue, Interrupt, VirtioDevice};
