//! Files that are read into guest memory and written from it at a place, whole or not at all.
//!
//! Called by the block device's worker. Which memory and which place is for the caller to check;
//! what lies in the memory may change while it is copied.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

/// Segments in one call: as many as the kernel takes.
const MAX_SEGMENTS: usize = 1024;

/// Fills all of `target` from `offset` on; a file that ends before is an error.
pub(crate) fn read_at(file: &File, target: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    transfer(target, offset, |segments, count, offset| {
        // SAFETY: the segments point into memory that the caller's borrowed slices keep mapped
        // and writable; nothing in this process assumes what it holds.
        unsafe { libc::preadv(file.as_raw_fd(), segments, count, offset) }
    })
}

/// Writes all of `source` from `offset` on.
pub(crate) fn write_at(file: &File, source: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    transfer(source, offset, |segments, count, offset| {
        // SAFETY: as in `read_at`, and the segments are only read from.
        unsafe { libc::pwritev(file.as_raw_fd(), segments, count, offset) }
    })
}

/// Calls until everything is moved: a call may do less than it is asked for.
fn transfer(
    slices: &[VolatileSlice<'_>],
    offset: u64,
    mut call: impl FnMut(*const libc::iovec, libc::c_int, libc::off_t) -> isize,
) -> io::Result<()> {
    let mut segments: Vec<libc::iovec> = slices
        .iter()
        .filter(|slice| !slice.is_empty())
        .map(|slice| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        })
        .collect();
    let mut place = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut rest = segments.as_mut_slice();
    while !rest.is_empty() {
        let count = libc::c_int::try_from(rest.len().min(MAX_SEGMENTS)).unwrap_or(1);
        let moved = match usize::try_from(call(rest.as_ptr(), count, place)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(moved) => moved,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            },
        };
        place = libc::off_t::try_from(moved)
            .ok()
            .and_then(|moved| place.checked_add(moved))
            .ok_or(io::ErrorKind::InvalidInput)?;
        rest = advance(rest, moved);
    }
    Ok(())
}

/// What is left of `segments` behind their first `moved` bytes.
fn advance(segments: &mut [libc::iovec], moved: usize) -> &mut [libc::iovec] {
    let mut moved = moved;
    let mut whole = 0;
    for segment in segments.iter_mut() {
        if moved < segment.iov_len {
            segment.iov_base = segment.iov_base.wrapping_byte_add(moved);
            segment.iov_len -= moved;
            break;
        }
        moved -= segment.iov_len;
        whole += 1;
    }
    segments.get_mut(whole..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_moved_in_order_and_an_end_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let (mut one, mut two) = ([1_u8, 2, 3], [4_u8, 5]);
        let slices = [
            VolatileSlice::from(one.as_mut_slice()),
            VolatileSlice::from(two.as_mut_slice()),
        ];
        write_at(&file, &slices, 7).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 12);
        let (mut three, mut four) = ([0_u8; 1], [0_u8; 4]);
        let slices = [
            VolatileSlice::from(three.as_mut_slice()),
            VolatileSlice::from(four.as_mut_slice()),
        ];
        read_at(&file, &slices, 7).unwrap();
        let error = read_at(&file, &slices, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_at(&file, &slices, u64::MAX).is_err());
        read_at(&file, &slices, 7).unwrap();
        assert_eq!((three, four), ([1], [2, 3, 4, 5]));
    }

    #[test]
    fn what_a_short_call_left_goes_on_where_it_stopped() {
        let mut bytes = [0_u8; 6];
        let base: *mut libc::c_void = bytes.as_mut_ptr().cast();
        let segment = |at, iov_len| libc::iovec {
            iov_base: base.wrapping_byte_add(at),
            iov_len,
        };
        let mut segments = [segment(0, 2), segment(2, 4)];
        let rest = advance(&mut segments, 3);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].iov_base, base.wrapping_byte_add(3));
        assert_eq!(rest[0].iov_len, 3);
        assert!(advance(&mut segments, 5).is_empty());
    }
}
