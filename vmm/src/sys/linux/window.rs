//! A window: host addresses that the guest sees from the start, and that host memory is placed
//! in and taken out of while it runs.
//!
//! `devices/gpu` decides what goes where; the builder gives the whole range to KVM as one slot.
//! No Rust code reads or writes through a window. Where nothing is placed, an access of the
//! guest ends its VM.

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};

/// The address range; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Window {
    host: *mut c_void,
    length: usize,
}

// SAFETY: the pointer is an address for system calls; nothing is read or written through it.
unsafe impl Send for Window {}

impl Window {
    /// Reserves `length` bytes of address space. Nothing is there.
    pub(crate) fn reserve(length: usize) -> io::Result<Self> {
        // SAFETY: the kernel chooses a range that nothing uses.
        let host = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, EMPTY, NOTHING) }?;
        let window = Self { host, length };
        window.keep_out_of_children(0, length)?;
        Ok(window)
    }

    /// Where the window begins, for the hypervisor.
    pub(crate) fn host(&self) -> *mut u8 {
        self.host.cast()
    }

    /// Places the first `length` bytes of what `memory` (a memfd or a dma-buf) is at `offset`.
    /// Both are whole pages.
    pub(crate) fn place(
        &mut self,
        offset: usize,
        length: usize,
        memory: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let target = self.target(offset, length)?;
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: the range is inside the window, which nothing in this process refers to.
        let placed = unsafe { rustix::mm::mmap(target, length, FULL, flags, memory, 0) };
        self.finish(offset, length, placed.map(drop))
    }

    /// Places the pages that are mapped at `memory` at `offset`. Both, and `length`, are whole
    /// pages. The first mapping may go; the pages stay.
    ///
    /// # Safety
    ///
    /// `length` bytes are mapped at `memory` while this runs. If they were [`Moved`], nothing
    /// reads or writes there afterwards; unmapping it is fine.
    ///
    /// [`Moved`]: Aliased::Moved
    pub(crate) unsafe fn alias(
        &mut self,
        offset: usize,
        length: usize,
        memory: *mut c_void,
    ) -> io::Result<Aliased> {
        let target = self.target(offset, length)?;
        // In two steps, since the kernel empties a fixed target before it looks whether the
        // source can be had, and what is emptied could become another thread's.
        // SAFETY: the caller vouches for the source; an old length of 0 leaves it as it is.
        let copy = unsafe { rustix::mm::mremap(memory, 0, length, MremapFlags::MAYMOVE) };
        let (copy, aliased) = match copy {
            Ok(copy) => (copy, Aliased::Copied),
            // SAFETY: the caller vouches for the source, and for nobody using it.
            Err(_) => (unsafe { pull(memory, length) }?, Aliased::Moved),
        };
        let flags = MremapFlags::MAYMOVE;
        // SAFETY: `copy` was just made and is this function's; the target is inside the window.
        let moved = unsafe { rustix::mm::mremap_fixed(copy, length, length, flags, target) };
        if moved.is_err() {
            // SAFETY: as above; it was not moved.
            unsafe { rustix::mm::munmap(copy, length) }?;
        }
        self.finish(offset, length, moved.map(drop))?;
        Ok(aliased)
    }

    /// Takes out what lies in a range.
    pub(crate) fn clear(&mut self, offset: usize, length: usize) -> io::Result<()> {
        let target = self.target(offset, length)?;
        // SAFETY: the range is inside the window, which nothing in this process refers to.
        unsafe { rustix::mm::mmap_anonymous(target, length, EMPTY, NOTHING | MapFlags::FIXED) }?;
        self.keep_out_of_children(offset, length)
    }

    fn finish(
        &mut self,
        offset: usize,
        length: usize,
        placed: Result<(), Errno>,
    ) -> io::Result<()> {
        match placed {
            Ok(()) => self.keep_out_of_children(offset, length),
            Err(errno) => {
                self.clear(offset, length)?;
                Err(errno.into())
            }
        }
    }

    /// A process that this one starts, such as a hook, has no use for the guest's memory.
    fn keep_out_of_children(&self, offset: usize, length: usize) -> io::Result<()> {
        let target = self.target(offset, length)?;
        // SAFETY: the range is inside the window; the advice does not change its contents.
        unsafe { rustix::mm::madvise(target, length, Advice::LinuxDontFork) }?;
        Ok(())
    }

    fn target(&self, offset: usize, length: usize) -> io::Result<*mut c_void> {
        let fits = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.length && length > 0);
        if !fits {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.host.wrapping_byte_add(offset))
    }
}

/// How pages came into a window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Aliased {
    /// They are in both places.
    Copied,
    /// They are in the window only. Their old place is taken and empty.
    Moved,
}

/// Moves a mapping that cannot be duplicated (the memory of a device, whose driver forbids it: seen
/// with NVIDIA's) to where the kernel likes. Whoever made it will unmap the place where it was, so
/// that stays taken.
///
/// # Safety
///
/// `length` bytes are mapped at `memory`, and nothing uses them.
unsafe fn pull(memory: *mut c_void, length: usize) -> io::Result<*mut c_void> {
    let flags = MremapFlags::MAYMOVE;
    // SAFETY: the kernel chooses a range that nothing uses.
    let place = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, EMPTY, NOTHING) }?;
    // SAFETY: the source is the caller's, the target was just reserved. A failure leaves that
    // reserved, or emptied, so it cannot be given back.
    unsafe { rustix::mm::mremap_fixed(memory, length, length, flags, place) }?;
    let hold = NOTHING | MapFlags::FIXED_NOREPLACE;
    // SAFETY: nothing is replaced.
    if let Err(errno) = unsafe { rustix::mm::mmap_anonymous(memory, length, EMPTY, hold) } {
        // Another thread's memory may be there by now, and the mapping's maker would unmap it.
        tracing::error!(%errno, ?memory, length, "hold the place of a moved mapping");
        std::process::abort();
    }
    Ok(place)
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the range is this window's, and nothing in this process refers to it.
        let _ = unsafe { rustix::mm::munmap(self.host, self.length) };
    }
}

const EMPTY: ProtFlags = ProtFlags::empty();
const FULL: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
const NOTHING: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    const PAGE: usize = 4096;

    /// What /proc says of the page at `offset`: permissions and path.
    fn page(window: &Window, offset: usize) -> String {
        let wanted = window.host().addr() + offset;
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .find(|line| {
                let (range, _) = line.split_once(' ').unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let at = |text| usize::from_str_radix(text, 16).unwrap();
                (at(start)..at(end)).contains(&wanted)
            })
            .unwrap()
            .to_owned()
    }

    #[test]
    fn memory_is_placed_aliased_and_cleared() {
        let mut window = Window::reserve(16 * PAGE).unwrap();
        let memory = memfd_create("blob", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 2 * PAGE as u64).unwrap();
        window.place(PAGE, 2 * PAGE, memory.as_fd()).unwrap();
        assert!(page(&window, PAGE).contains("rw-s"));
        assert!(page(&window, 0).contains("---p"));
        assert!(page(&window, 3 * PAGE).contains("---p"));

        let source = window.host().wrapping_add(PAGE).cast();
        // SAFETY: two pages were just placed there.
        let aliased = unsafe { window.alias(8 * PAGE, 2 * PAGE, source) };
        assert_eq!(aliased.unwrap(), Aliased::Copied);
        window.clear(PAGE, 2 * PAGE).unwrap();
        assert!(page(&window, PAGE).contains("---p"));
        assert!(page(&window, 9 * PAGE).contains("blob"));
    }

    #[test]
    fn what_does_not_fit_or_cannot_be_placed_leaves_the_window_empty() {
        let mut window = Window::reserve(4 * PAGE).unwrap();
        let (directory, memory) = (
            std::fs::File::open("/").unwrap(),
            memfd_create("blob", MemfdFlags::CLOEXEC).unwrap(),
        );
        for (offset, length) in [(0, 5 * PAGE), (4 * PAGE, PAGE), (usize::MAX, PAGE), (0, 0)] {
            assert!(window.place(offset, length, memory.as_fd()).is_err());
            assert!(window.clear(offset, length).is_err());
        }
        assert!(window.place(0, PAGE, directory.as_fd()).is_err());
        // SAFETY: one page is claimed to be there; nothing is.
        assert!(unsafe { window.alias(0, PAGE, ptr::without_provenance_mut(PAGE)) }.is_err());
        assert!(page(&window, 0).contains("---p"));
    }

    #[test]
    fn what_cannot_be_in_two_places_is_moved_and_its_place_held() {
        let mut window = Window::reserve(4 * PAGE).unwrap();
        // Private memory, like a device's, cannot be duplicated.
        let mut source = Window::reserve(2 * PAGE).unwrap();
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let memory = source.target(0, 2 * PAGE).unwrap();
        // SAFETY: the range is the source window's.
        let memory = unsafe { rustix::mm::mmap_anonymous(memory, 2 * PAGE, FULL, flags) }.unwrap();
        // SAFETY: two pages are mapped there, and nothing uses them.
        let aliased = unsafe { window.alias(PAGE, 2 * PAGE, memory) };
        assert_eq!(aliased.unwrap(), Aliased::Moved);
        assert!(page(&window, PAGE).contains("rw-p"));
        assert!(page(&source, 0).contains("---p"));
        source.clear(0, 2 * PAGE).unwrap();
        window.clear(PAGE, 2 * PAGE).unwrap();
        assert!(page(&window, PAGE).contains("---p"));
    }
}
