//! Which blob is where in the host-visible window (shared memory region 1).
//!
//! The guest chooses the offsets. A mapping lies on page boundaries, inside the window and apart
//! from every other one, or it is refused before anything is mapped.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;

use crate::layout::PAGE;
use crate::memory::{Aliased, Window};

/// The window and what is mapped there.
#[derive(Debug)]
pub(super) struct BlobWindow {
    window: Window,
    /// Lengths by offset.
    mapped: BTreeMap<u64, u64>,
}

/// A range of the window that was found free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Slot {
    offset: u64,
    length: u64,
}

impl Slot {
    /// Bytes, whole pages.
    pub(super) fn length(self) -> u64 {
        self.length
    }
}

impl BlobWindow {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            mapped: BTreeMap::new(),
        }
    }

    /// The range for a blob of `size` bytes at `offset`, if it may be mapped there.
    pub(super) fn slot(&self, offset: u64, size: u64) -> Option<Slot> {
        let length = size.checked_next_multiple_of(PAGE)?;
        let end = offset.checked_add(length)?;
        if length == 0 || !offset.is_multiple_of(PAGE) || end > self.window.guest().length {
            return None;
        }
        let before = self.mapped.range(..end).next_back();
        let free = before.is_none_or(|(start, length)| start + length <= offset);
        free.then_some(Slot { offset, length })
    }

    /// Maps a memfd or dma-buf, which has the slot's size.
    pub(super) fn place(&mut self, slot: Slot, memory: BorrowedFd<'_>) -> io::Result<()> {
        let (offset, length) = host_range(slot)?;
        self.window.host().place(offset, length, memory)?;
        self.mapped.insert(slot.offset, slot.length);
        Ok(())
    }

    /// Maps what is mapped at `memory`, or moves it here.
    ///
    /// # Safety
    ///
    /// As many bytes as the slot has are mapped there, and nothing uses them.
    pub(super) unsafe fn alias(&mut self, slot: Slot, memory: *mut c_void) -> io::Result<Aliased> {
        let (offset, length) = host_range(slot)?;
        // SAFETY: the caller vouches for the memory.
        let aliased = unsafe { self.window.host().alias(offset, length, memory) }?;
        self.mapped.insert(slot.offset, slot.length);
        Ok(aliased)
    }

    /// Unmaps what was mapped in a slot. If that fails, the range stays taken.
    pub(super) fn clear(&mut self, slot: Slot) -> io::Result<()> {
        let (offset, length) = host_range(slot)?;
        self.window.host().clear(offset, length)?;
        self.mapped.remove(&slot.offset);
        Ok(())
    }
}

fn host_range(slot: Slot) -> io::Result<(usize, usize)> {
    usize::try_from(slot.offset)
        .ok()
        .zip(usize::try_from(slot.length).ok())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
