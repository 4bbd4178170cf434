//! Loading the kernel: its segments become guest memory, mapped where that is possible, so that
//! VMs share the pages that none of them has written to.

use std::fs::File;

use vm_memory::GuestMemoryMmap;

use super::elf::{self, KernelImageError};
use crate::layout::{HIGH_RAM_START, Layout, Range};
use crate::memory::load_file;

/// A kernel in guest memory.
#[derive(Debug)]
pub(crate) struct Kernel {
    entry: Entry,
    end: u64,
}

/// Where a kernel is entered, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Entry {
    /// The PVH boot ABI.
    Pvh(u64),
    /// Linux's 64-bit boot protocol, for images with no PVH note.
    Linux64(u64),
}

impl Kernel {
    /// Loads `file` to the addresses that it names.
    pub(crate) fn load(
        memory: &GuestMemoryMmap,
        layout: Layout,
        file: &File,
    ) -> Result<Self, KernelImageError> {
        let image = elf::read(file)?;
        let (low, high) = (HIGH_RAM_START, layout.low_ram().end());
        let mut end = None;
        for segment in &image.segments {
            let start = segment.address;
            let segment_end = start.saturating_add(segment.memory_size);
            if start < low || segment_end > high {
                return Err(KernelImageError::Outside {
                    start,
                    end: segment_end,
                    low,
                    high,
                });
            }
            load_file(
                memory,
                file,
                segment.offset,
                Range {
                    start,
                    length: segment.file_size,
                },
            )
            .map_err(KernelImageError::Load)?;
            end = end.max(Some(segment_end));
        }
        let entry = image
            .pvh_entry
            .map_or(Entry::Linux64(image.entry), Entry::Pvh);
        let (Entry::Pvh(address) | Entry::Linux64(address)) = entry;
        let inside = image.segments.iter().any(|segment| {
            (segment.address..segment.address.saturating_add(segment.file_size)).contains(&address)
        });
        match end {
            None => Err(KernelImageError::Empty),
            Some(_) if !inside => Err(KernelImageError::Entry(address)),
            Some(end) => Ok(Self { entry, end }),
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    /// First address behind the kernel.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}
