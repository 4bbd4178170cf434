//! Guest memory that backs a resource.
//!
//! The control queue makes one from the guest's list of pieces, each of which must lie in RAM;
//! the renderer gets it as an array of host addresses and keeps it until the resource lets go of
//! it. The guest's memory stays mapped as long as any backing lives.

use vm_memory::{GuestAddress, GuestMemory as _};

use super::protocol::MemoryEntry;
use crate::memory::GuestMemory;

/// The pieces of all resources together may be this many: 32 MiB of addresses, which describe
/// 8 GiB of scattered pages.
pub(super) const MOST_PIECES: usize = 2 << 20;

/// Guest memory in pieces.
pub(crate) struct Backing {
    pieces: Box<[libc::iovec]>,
    length: u64,
    _memory: GuestMemory,
}

impl Backing {
    /// Finds the pieces in guest memory; `None` if one is not there.
    pub(crate) fn new(memory: &GuestMemory, entries: &[MemoryEntry]) -> Option<Self> {
        let mut pieces = Vec::with_capacity(entries.len());
        let mut length = 0u64;
        for entry in entries {
            let bytes = usize::try_from(entry.length.get()).ok()?;
            length = length.checked_add(u64::from(entry.length.get()))?;
            for slice in memory.get_slices(GuestAddress(entry.address.get()), bytes) {
                let slice = slice.ok()?;
                pieces.push(libc::iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                    iov_len: slice.len(),
                });
            }
        }
        Some(Self {
            pieces: pieces.into_boxed_slice(),
            length,
            _memory: memory.clone(),
        })
    }

    /// Bytes in all.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The pieces, for as long as this lives.
    pub(crate) fn pieces(&self) -> &[libc::iovec] {
        &self.pieces
    }
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Backing")
            .field("pieces", &self.pieces.len())
            .field("length", &self.length)
            .finish()
    }
}
