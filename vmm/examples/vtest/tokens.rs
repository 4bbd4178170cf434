//! Descriptors that stand for places in this process: mapping one gives the place.
//!
//! The program's drivers call `mmap` and `munmap` here. This library's own calls, which
//! fill and empty the window, go to the kernel directly.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};

/// Tokens by the addresses that they stand for, none in another's place. The kernel counts the
/// inodes of memfds up, so they do not come back.
static TOKENS: Mutex<BTreeMap<usize, Token>> = Mutex::new(BTreeMap::new());

struct Token {
    /// Bytes.
    length: u64,
    /// Device and inode.
    file: (u64, u64),
}

/// A descriptor that stands for `length` bytes at `address`.
pub(super) fn make(address: usize, length: u64) -> io::Result<OwnedFd> {
    let token = memfd_create("krun-gpu-token", MemfdFlags::CLOEXEC)?;
    ftruncate(&token, length)?;
    let file = file(token.as_fd())?;
    let mut tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    // What was in this place before is gone.
    let (start, end) = (address as u64, address as u64 + length);
    tokens.retain(|other, token| {
        let other = *other as u64;
        other >= end || other + token.length <= start
    });
    tokens.insert(address, Token { length, file });
    Ok(token)
}

fn file(descriptor: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let status = fstat(descriptor)?;
    Ok((status.st_dev, status.st_ino))
}

/// What a descriptor stands for, if it is one of ours.
fn place(descriptor: c_int) -> Option<usize> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: the caller of mmap has it open, or fstat says that nobody has.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let file = file(descriptor).ok()?;
    let tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ours = tokens.iter().filter(|(_, token)| token.file == file);
    ours.next().map(|(address, _)| *address)
}

/// Whether a token stands for an address.
fn is_placed(address: usize) -> bool {
    let tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    let before = tokens.range(..=address).next_back();
    before.is_some_and(|(start, token)| ((address - start) as u64) < token.length)
}

/// `mmap(2)` in front of the C library's.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: i64,
) -> *mut c_void {
    if flags & libc::MAP_ANONYMOUS == 0
        && let Some(place) = place(descriptor)
    {
        return ptr::with_exposed_provenance_mut(place);
    }
    // SAFETY: the caller's promises are the kernel's.
    let mapped = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            address,
            length,
            protection,
            flags,
            descriptor,
            offset,
        )
    };
    // An address, or -1, which is MAP_FAILED.
    usize::try_from(mapped.cast_unsigned())
        .map_or(libc::MAP_FAILED, ptr::with_exposed_provenance_mut)
}

/// `mmap` by its other name.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's promises are the same.
    unsafe { mmap(address, length, protection, flags, descriptor, offset) }
}

/// `munmap(2)` in front of the C library's. The window is emptied by its owner.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(address: *mut c_void, length: usize) -> c_int {
    if is_placed(address.addr()) {
        return 0;
    }
    // SAFETY: the caller's promises are the kernel's.
    let result = unsafe { libc::syscall(libc::SYS_munmap, address, length) };
    if result == 0 { 0 } else { -1 }
}
