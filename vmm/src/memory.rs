//! Guest memory: reserved, not committed.
//!
//! The builder makes it; vCPUs and devices share it. Pages come from the host at the guest's
//! first touch and go back through free page reporting (`devices/balloon`). What the guest writes
//! there may change at any time, so devices copy before they check.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::sync::Arc;

use vm_memory::{
    Bytes, GuestAddress, GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

use crate::layout::{Layout, MEMORY_GRANULE, Range};
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

/// Reads `target.length` bytes of `file` from `offset` into guest memory.
///
/// Mapping the file instead would share its pages between VMs, but a kernel patches nearly every
/// page of its own text while it boots: each was a fault to map it and another to copy it, three
/// quarters of all exits before the agent starts, and nothing stayed shared.
pub(crate) fn load_file(
    memory: &GuestMemoryMmap,
    mut file: &File,
    offset: u64,
    target: Range,
) -> Result<(), LoadError> {
    let outside = || LoadError::Outside {
        start: target.start,
        length: target.length,
    };
    let length = usize::try_from(target.length).map_err(|_| outside())?;
    let start = GuestAddress(target.start);
    if !memory.check_range(start, length) {
        return Err(outside());
    }
    let read = |source| LoadError::Read { offset, source };
    file.seek(SeekFrom::Start(offset)).map_err(read)?;
    memory
        .read_exact_volatile_from(start, &mut file, length)
        .map_err(|error| read(io::Error::other(error)))
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
        source: io::Error,
    },
    /// The regions do not form an address space.
    #[error("arranging guest memory")]
    Regions(#[source] vm_memory::GuestRegionCollectionError),
    /// The hypervisor refused the memory.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
}

/// Why a file could not be read into guest memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The target is not RAM.
    #[error("{length:#x} bytes at guest address {start:#x} are not inside guest memory")]
    Outside {
        /// Guest-physical address.
        start: u64,
        /// Bytes.
        length: u64,
    },
    /// The file could not be read.
    #[error("reading the file at offset {offset:#x}")]
    Read {
        /// Offset in the file.
        offset: u64,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_loaded_from_its_offset_and_neither_past_its_end_nor_outside_of_memory() {
        let memory: GuestMemoryMmap =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8192)]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"head and body").unwrap();
        let load =
            |offset, start, length| load_file(&memory, &file, offset, Range { start, length });
        load(9, 4094, 4).unwrap();
        // The offset holds whatever was read before.
        load(0, 0, 4).unwrap();
        let mut read = [0; 6];
        memory.read_slice(&mut read, GuestAddress(4093)).unwrap();
        assert_eq!(&read, b"\0body\0");
        memory.read_slice(&mut read, GuestAddress(0)).unwrap();
        assert_eq!(&read, b"head\0\0");
        assert!(matches!(
            load(9, 0, 5),
            Err(LoadError::Read { offset: 9, .. })
        ));
        for (start, length) in [(8190, 4), (u64::MAX, 2), (0, u64::MAX)] {
            assert!(
                matches!(load(0, start, length), Err(LoadError::Outside { .. })),
                "{length:#x} bytes at {start:#x}"
            );
        }
    }
}
