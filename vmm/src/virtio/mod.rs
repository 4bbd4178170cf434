//! virtio: the contract between a device and its transport, and the MMIO transport.

mod device;

pub use device::{ActivateError, Activation, ActiveQueue, Interrupt, VirtioDevice};
