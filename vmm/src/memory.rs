//! Guest memory: reserved, not committed.
//!
//! The builder makes it; vCPUs and devices share it. Pages come from the host at the guest's
//! first touch and go back through free page reporting (`devices/balloon`). What the guest writes
//! there may change at any time, so devices copy before they check.

use std::fs::File;
use std::sync::Arc;

use vm_memory::{
    Bytes, GuestAddress, GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

use crate::layout::{Layout, MEMORY_GRANULE, PAGE, Range};
pub(crate) use crate::sys::window::Aliased;
use crate::sys::{self, HypervisorError, Vm};

/// Guest memory, shared by the vCPUs' loader and every device. Accesses are bounds-checked by
/// vm-memory; what the guest writes there may change at any time.
pub type GuestMemory = Arc<GuestMemoryMmap>;

/// The memory slot of the window; RAM has those below.
const WINDOW_SLOT: u32 = 2;

/// The first memory slot of those for pages of registers.
pub(crate) const PAGE_SLOTS: u32 = 16;

/// Reserves the guest's RAM and gives it to the VM, one slot for each side of the hole.
pub(crate) fn create(layout: Layout, vm: &Vm) -> Result<GuestMemory, MemoryError> {
    let mut regions = Vec::new();
    for (slot, range) in (0u32..).zip([Some(layout.low_ram()), layout.high_ram()].iter().flatten())
    {
        let length =
            usize::try_from(range.length).map_err(|_| MemoryError::TooLarge(range.length))?;
        let mapping = sys::mapping::reserve(length).map_err(|source| MemoryError::Reserve {
            bytes: range.length,
            source,
        })?;
        let host = mapping.as_ptr();
        let region = GuestRegionMmap::new(mapping, GuestAddress(range.start))
            .ok_or(MemoryError::TooLarge(range.length))?;
        // SAFETY: `region` maps `length` bytes at `host`; the builder keeps it in the VM's
        // `GuestMemory`, which outlives the last run of a vCPU.
        unsafe { vm.map(slot, range.start, host, length) }?;
        regions.push(region);
    }
    GuestMemoryMmap::from_regions(regions)
        .map(Arc::new)
        .map_err(MemoryError::Regions)
}

/// Guest-physical addresses above RAM, where a device places host memory while the guest runs.
#[derive(Debug)]
pub struct Window {
    guest: Range,
    host: sys::window::Window,
}

impl Window {
    /// Reserves host addresses for the guest's. Nothing is there, and no VM has it yet.
    pub fn reserve(guest: Range) -> Result<Self, MemoryError> {
        let length =
            usize::try_from(guest.length).map_err(|_| MemoryError::TooLarge(guest.length))?;
        let host = sys::window::Window::reserve(length).map_err(|source| MemoryError::Reserve {
            bytes: guest.length,
            source,
        })?;
        Ok(Self { guest, host })
    }

    /// Where the guest finds it.
    pub fn guest(&self) -> Range {
        self.guest
    }

    /// Where it is in this process, for a caller that is the guest itself. What is placed there
    /// is host memory that others write to.
    pub fn host_address(&self) -> usize {
        self.host.host().addr()
    }

    pub(crate) fn host(&mut self) -> &mut sys::window::Window {
        &mut self.host
    }
}

/// Reserves a window of `size` bytes and gives it to the VM, as one slot.
pub(crate) fn create_window(layout: Layout, vm: &Vm, size: u64) -> Result<Window, MemoryError> {
    let guest = Some(size)
        .filter(|size| size.is_power_of_two() && *size >= MEMORY_GRANULE)
        .and_then(|size| layout.window(0, size))
        .ok_or(MemoryError::Window { size })?;
    let window = Window::reserve(guest)?;
    let length = usize::try_from(guest.length).map_err(|_| MemoryError::TooLarge(size))?;
    // SAFETY: the window stays reserved as long as the device has it, which is until no vCPU
    // runs; what is placed there is meant for the guest.
    unsafe { vm.map(WINDOW_SLOT, guest.start, window.host.host(), length) }?;
    Ok(window)
}

/// Places `length` bytes of `file` from `offset` at guest address `start`, so that the pages are
/// the page cache's until the guest writes to them: whole pages are mapped where offset and
/// address allow it, the rest is copied.
pub(crate) fn place_file(
    memory: &GuestMemoryMmap,
    file: &File,
    offset: u64,
    target: Range,
) -> Result<(), PlaceError> {
    let outside = || PlaceError::Outside {
        start: target.start,
        length: target.length,
    };
    let end = target
        .start
        .checked_add(target.length)
        .ok_or_else(outside)?;
    let mapped = if offset % PAGE == target.start % PAGE {
        let first = target
            .start
            .checked_next_multiple_of(PAGE)
            .ok_or_else(outside)?;
        first..(end - end % PAGE)
    } else {
        end..end
    };
    if mapped.is_empty() {
        return copy(memory, file, offset, target.start, end);
    }
    let length = usize::try_from(mapped.end - mapped.start).map_err(|_| outside())?;
    let host = memory
        .get_slice(GuestAddress(mapped.start), length)
        .map_err(|_| outside())?
        .ptr_guard_mut()
        .as_ptr();
    // SAFETY: `host` is `length` bytes of guest memory, just found; nothing is there yet that
    // Rust code refers to.
    unsafe { sys::mapping::place(host, length, file, offset + (mapped.start - target.start)) }
        .map_err(|source| PlaceError::Map {
            start: mapped.start,
            source,
        })?;
    copy(memory, file, offset, target.start, mapped.start)?;
    copy(
        memory,
        file,
        offset + (mapped.end - target.start),
        mapped.end,
        end,
    )
}

fn copy(
    memory: &GuestMemoryMmap,
    file: &File,
    mut offset: u64,
    start: u64,
    end: u64,
) -> Result<(), PlaceError> {
    use std::os::unix::fs::FileExt;

    let mut buffer = [0u8; 4096];
    let mut address = start;
    while address < end {
        let length = usize::try_from(end - address)
            .unwrap_or(buffer.len())
            .min(buffer.len());
        let (chunk, _) = buffer.split_at_mut(length);
        file.read_exact_at(chunk, offset)
            .map_err(|source| PlaceError::Read { offset, source })?;
        memory
            .write_slice(chunk, GuestAddress(address))
            .map_err(|_| PlaceError::Outside {
                start: address,
                length: end - address,
            })?;
        address += length as u64;
        offset += length as u64;
    }
    Ok(())
}

/// The regions as ranges, for reports.
pub(crate) fn host_ranges(memory: &GuestMemoryMmap) -> Vec<(u64, u64)> {
    memory
        .iter()
        .map(|region| (region.as_ptr() as u64, region.len()))
        .collect()
}

/// Why guest memory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// More than this host can address.
    #[error("guest memory of {0} bytes is more than this host can address")]
    TooLarge(u64),
    /// A window that cannot be.
    #[error(
        "a window of {size} bytes for shared memory; it must be a power of two, at least 2 MiB, \
         and end below 64 TiB"
    )]
    Window {
        /// Bytes.
        size: u64,
    },
    /// The host refused the reservation.
    #[error("reserving {bytes} bytes of address space for guest memory")]
    Reserve {
        /// How much.
        bytes: u64,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The regions do not form an address space.
    #[error("arranging guest memory")]
    Regions(#[source] vm_memory::GuestRegionCollectionError),
    /// The hypervisor refused the memory.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
}

/// Why a file could not be placed in guest memory.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The target is not RAM.
    #[error("{length:#x} bytes at guest address {start:#x} are not inside guest memory")]
    Outside {
        /// Guest-physical address.
        start: u64,
        /// Bytes.
        length: u64,
    },
    /// The file could not be mapped.
    #[error("mapping the file at guest address {start:#x}")]
    Map {
        /// Guest-physical address.
        start: u64,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The file could not be read.
    #[error("reading the file at offset {offset:#x}")]
    Read {
        /// Offset in the file.
        offset: u64,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}
