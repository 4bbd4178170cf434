//! The seam between the VMM and the machine that it runs on: the hypervisor (`Vm`, `Vcpu`,
//! `Exit`), memory mappings and threads. Everything else in this crate is portable.
//!
//! One folder per platform offers the same names; the alias below chooses it. On Linux:
//! [`Vm`] maps memory, makes vCPUs, interrupt lines and doorbells; [`Vcpu`] runs, and its
//! [`Kicker`] makes another thread's run return.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{
    Exit, Kicker, LateDoorbell, RegisterPage, Vcpu, Vm, eventfd, file, mapping, stream, tap,
    thread, vhost, window,
};
#[cfg(target_os = "linux")]
pub use linux::{HypervisorError, ProbeError, probe};

/// How the boot vCPU enters the kernel; the others wait for it to start them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BootState {
    /// 32-bit protected mode without paging, as the PVH ABI asks for.
    Pvh {
        /// First instruction.
        entry: u64,
        /// Where `hvm_start_info` is.
        start_info: u64,
    },
    /// 64-bit mode with identity-mapped pages, as Linux's 64-bit boot protocol asks for.
    Linux64 {
        /// First instruction.
        entry: u64,
        /// Where `boot_params` is.
        zero_page: u64,
        /// Where the top page table is.
        page_tables: u64,
        /// Where the GDT of [`crate::boot`] is, and its limit.
        gdt: (u64, u16),
    },
}
