//! Loading the initramfs, which the guest unpacks, and whose memory it then uses for something
//! else.

use std::fs::File;

use vm_memory::GuestMemoryMmap;

use crate::layout::{Layout, PAGE, Range};
use crate::memory::{LoadError, load_file};

/// Puts `file` at the end of low memory, above `kernel_end`.
pub(super) fn load(
    memory: &GuestMemoryMmap,
    layout: Layout,
    kernel_end: u64,
    file: &File,
) -> Result<Range, InitramfsError> {
    let length = file.metadata().map_err(InitramfsError::Read)?.len();
    if length == 0 {
        return Err(InitramfsError::Empty);
    }
    let low_end = layout.low_ram().end();
    let start = low_end
        .checked_sub(length)
        .map(|start| start - start % PAGE)
        .filter(|start| *start >= kernel_end)
        .ok_or(InitramfsError::NoRoom {
            length,
            kernel_end,
            low_end,
        })?;
    let range = Range { start, length };
    load_file(memory, file, 0, range).map_err(InitramfsError::Load)?;
    Ok(range)
}

/// Why the initramfs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// It cannot be read.
    #[error("reading the initramfs")]
    Read(#[source] std::io::Error),
    /// It has no contents.
    #[error("the initramfs is empty")]
    Empty,
    /// The guest's memory is too small.
    #[error(
        "the initramfs of {length:#x} bytes does not fit between the kernel's end at {kernel_end:#x} and the end of memory at {low_end:#x}"
    )]
    NoRoom {
        /// Its size.
        length: u64,
        /// First free address.
        kernel_end: u64,
        /// First address behind memory.
        low_end: u64,
    },
    /// It could not be read into memory.
    #[error("loading the initramfs")]
    Load(#[source] LoadError),
}
