//! Linux: KVM.

mod cpuid;
mod error;
pub(crate) mod eventfd;
pub(crate) mod file;
mod kick;
pub(crate) mod mapping;
mod probe;
mod register_page;
mod registers;
pub(crate) mod stream;
pub(crate) mod tap;
pub(crate) mod thread;
mod vcpu;
pub(crate) mod vhost;
mod vm;
pub(crate) mod window;

pub use error::HypervisorError;
pub(crate) use kick::Kicker;
pub use probe::{ProbeError, probe};
pub(crate) use register_page::RegisterPage;
pub(crate) use vcpu::{Exit, Vcpu};
pub(crate) use vm::{LateDoorbell, Vm};
