//! What a VM is made of, as its caller says.

use std::fs::File;
use std::os::fd::OwnedFd;

use crate::devices::block::DiskConfig;
use crate::devices::fs::FsConfig;
use crate::devices::gpu::GpuConfig;
use crate::devices::vsock::VsockConfig;

/// One microVM. The caller opens every file in the view of the host that it wants; this crate
/// opens none by name but what [`FsConfig`] exports.
#[derive(Debug)]
pub struct VmConfig {
    /// /dev/kvm.
    pub kvm: OwnedFd,
    /// An uncompressed vmlinux, with a PVH note or for the 64-bit boot protocol. It is mapped, so
    /// it must not change while the VM runs.
    pub kernel: File,
    /// A cpio archive; mapped like the kernel.
    pub initramfs: File,
    /// vCPUs, 1 to 254.
    pub vcpus: u8,
    /// Guest memory in bytes, a multiple of [`crate::layout::MEMORY_GRANULE`].
    pub memory: u64,
    /// Appended to the kernel's command line: printable ASCII.
    pub cmdline: String,
    /// The guest's way to the host.
    pub vsock: VsockConfig,
    /// The directory that the guest gets as its file system.
    pub root: Option<FsConfig>,
    /// The guest's CPUs offer virtualisation of their own, where the host's KVM lets them.
    pub nested: bool,
    /// The guest's GPU, if it is to have one.
    pub gpu: Option<GpuConfig>,
    /// The guest's disks.
    pub disks: Vec<DiskConfig>,
    /// NICs that the VM can have: they are plugged in later ([`crate::MicroVm::nic_slots`]).
    pub nic_slots: u8,
}
