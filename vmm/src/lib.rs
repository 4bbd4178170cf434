//! The library that runs one microVM. It knows nothing of OCI: its caller (shim/) hands it open
//! files and numbers, and gets a guest, a vsock and a console back.
//!
//! [`MicroVm::build`] is the boot story and the place to begin reading.

mod boot;
mod builder;
mod bus;
mod config;
pub mod devices;
mod event_loop;
mod exit;
pub mod layout;
pub mod memory;
mod micro_vm;
mod sys;
mod vcpu;
pub mod virtio;

pub use boot::{BootError, CommandLineError, InitramfsError, KernelImageError};
pub use builder::BuildError;
pub use config::VmConfig;
pub use event_loop::{EventLoop, LoopHandle, Watch};
pub use exit::ExitReason;
pub use micro_vm::{MicroVm, Milestones, StartError};
pub use sys::{HypervisorError, ProbeError, probe};
