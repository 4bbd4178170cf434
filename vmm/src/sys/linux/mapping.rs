//! Memory mappings of the host: where the guest's RAM comes from.

use std::ffi::c_void;
use std::io;

use rustix::io::Errno;
use rustix::mm::Advice;
use vm_memory::MmapRegion;

/// Reserves `length` bytes of anonymous memory, not committed and not yet there. It is left out
/// of core dumps, and children of this process do not get it.
///
/// Huge pages are asked for: a guest's kernel touches its page structures while it boots (32 MiB
/// in a VM of 2 GiB), and each first touch of a page is an exit and a fault here. Linux 6.7 and
/// later place a mapping of this size on a huge page's border by themselves.
pub(crate) fn reserve(length: usize) -> io::Result<MmapRegion> {
    let region = MmapRegion::build(
        None,
        length,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    )
    .map_err(|error| match error {
        vm_memory::mmap::MmapRegionError::Mmap(source) => source,
        other => io::Error::other(other),
    })?;
    for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
        // SAFETY: the range is the mapping just made; neither advice changes its contents.
        unsafe { rustix::mm::madvise(region.as_ptr().cast::<c_void>(), length, advice) }?;
    }
    // SAFETY: as above.
    match unsafe {
        rustix::mm::madvise(
            region.as_ptr().cast::<c_void>(),
            length,
            Advice::LinuxHugepage,
        )
    } {
        // A kernel without transparent huge pages.
        Ok(()) | Err(Errno::INVAL) => Ok(region),
        Err(error) => Err(error.into()),
    }
}

/// Gives the pages of `length` bytes at `host` back: they read as zero until they are written
/// again.
///
/// # Safety
///
/// `host` and `length` are whole pages inside a mapping made by [`reserve`], and nothing relies
/// on their contents.
pub(crate) unsafe fn discard(host: *mut u8, length: usize) -> io::Result<()> {
    // SAFETY: the caller vouches for the range.
    unsafe { rustix::mm::madvise(host.cast::<c_void>(), length, Advice::LinuxDontNeed) }?;
    Ok(())
}
