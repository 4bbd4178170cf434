//! Everything that is in guest memory before the first instruction: kernel, initramfs, command
//! line, the tables that describe the machine.
//!
//! Called by the builder, once. The images come from the installation, but they are checked all
//! the same: a corrupt one gets an error, not a guest that hangs.

mod command_line;
mod elf;
mod initramfs;
mod kernel;
mod linux64;
mod mp_table;
mod pvh;

pub(crate) use command_line::CommandLine;
pub use command_line::CommandLineError;
pub use elf::KernelImageError;
pub use initramfs::InitramfsError;
pub(crate) use kernel::{Entry, Kernel};
pub(crate) use mp_table::MpTable;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::layout::{self, Layout, Range};
use crate::sys::BootState;

/// Writes the command line and the structures of the kernel's boot protocol.
pub(crate) fn write_parameters(
    memory: &GuestMemoryMmap,
    layout: Layout,
    entry: Entry,
    initramfs: Range,
    command_line: &CommandLine,
) -> Result<BootState, BootError> {
    write(
        memory,
        "the command line",
        layout::COMMAND_LINE,
        &command_line.as_bytes_with_nul(),
    )?;
    match entry {
        Entry::Pvh(entry) => pvh::write(memory, layout, entry, initramfs),
        Entry::Linux64(entry) => linux64::write(memory, layout, entry, initramfs, command_line),
    }
}

/// Loads the initramfs at the end of low memory, above the kernel.
pub(crate) fn load_initramfs(
    memory: &GuestMemoryMmap,
    layout: Layout,
    kernel: &Kernel,
    file: &std::fs::File,
) -> Result<Range, InitramfsError> {
    initramfs::load(memory, layout, kernel.end(), file)
}

fn write(
    memory: &GuestMemoryMmap,
    what: &'static str,
    address: u64,
    bytes: &[u8],
) -> Result<(), BootError> {
    memory
        .write_slice(bytes, GuestAddress(address))
        .map_err(|source| BootError {
            what,
            address,
            source,
        })
}

/// A boot structure that did not fit in guest memory.
#[derive(Debug, thiserror::Error)]
#[error("writing {what} to guest address {address:#x}")]
pub struct BootError {
    what: &'static str,
    address: u64,
    #[source]
    source: vm_memory::GuestMemoryError,
}
