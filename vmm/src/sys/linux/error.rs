//! What KVM can refuse.

use vmm_sys_util::errno::Error as Errno;

/// Why the hypervisor could not do what the VMM asked for.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The descriptor is not /dev/kvm, or its API is not the one that has been stable since 2007.
    #[error("the descriptor does not speak KVM's API version 12 (it says {0})")]
    NotKvm(i32),
    /// The host's KVM lacks something.
    #[error("this host's KVM has no {0}")]
    Missing(&'static str),
    /// More vCPUs than KVM gives.
    #[error("{wanted} vCPUs asked for, and this host's KVM gives at most {most}")]
    TooManyVcpus {
        /// How many were asked for.
        wanted: u8,
        /// How many there can be.
        most: usize,
    },
    /// An ioctl on the VM failed.
    #[error("{action}")]
    Vm {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// An ioctl on a vCPU failed.
    #[error("{action} of vCPU {vcpu}")]
    Vcpu {
        /// What was being done.
        action: &'static str,
        /// The vCPU's index.
        vcpu: u8,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A memory slot was refused.
    #[error("mapping {length:#x} bytes of memory at guest address {start:#x}")]
    Map {
        /// Guest-physical address.
        start: u64,
        /// Bytes.
        length: usize,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

impl HypervisorError {
    /// For `map_err`: an ioctl on the VM.
    pub(super) fn vm(action: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Vm {
            action,
            source: errno.into(),
        }
    }

    /// For `map_err`: an ioctl on a vCPU.
    pub(super) fn vcpu(vcpu: u8, action: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Vcpu {
            action,
            vcpu,
            source: errno.into(),
        }
    }
}
