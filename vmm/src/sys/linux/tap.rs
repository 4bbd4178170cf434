//! A tap: an Ethernet interface of the host whose other end is a descriptor.
//!
//! Called by the net device (`devices::net`), whose thread reads and writes frames. The caller of
//! this crate has made the interface (`/dev/net/tun`, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR), and
//! opened it several times for several pairs of queues; every frame has a virtio-net header of
//! 12 bytes in front. The kernel checks the header again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use vm_memory::VolatileSlice;

/// Bytes of the header: virtio 1's, with the number of buffers.
const HEADER: libc::c_int = 12;

/// Segments in one call: as many as the kernel takes.
const MAX_SEGMENTS: usize = 1024;

/// What the reader of a tap can do with frames that it gets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Offloads {
    /// Finish checksums.
    pub(crate) checksums: bool,
    /// Take TCP segments of up to 64 KiB over IPv4.
    pub(crate) tcp4: bool,
    /// The same over IPv6.
    pub(crate) tcp6: bool,
    /// The same with ECN.
    pub(crate) ecn: bool,
    /// The same for UDP datagrams, over both.
    pub(crate) udp: bool,
}

/// One tap.
#[derive(Debug)]
pub(crate) struct Tap {
    descriptor: OwnedFd,
}

impl Tap {
    /// Takes over a tap's descriptor; fails when it is none.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let size = HEADER;
        // SAFETY: the request takes a pointer to an int, which lives through the call.
        let result = unsafe {
            libc::ioctl(
                descriptor.as_raw_fd(),
                libc::TUNSETVNETHDRSZ,
                &raw const size,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// Says what may be read. The kernel does the rest of the work itself.
    pub(crate) fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        let flags = [
            (offloads.checksums, libc::TUN_F_CSUM),
            (offloads.tcp4, libc::TUN_F_TSO4),
            (offloads.tcp6, libc::TUN_F_TSO6),
            (offloads.ecn, libc::TUN_F_TSO_ECN),
            (offloads.udp, libc::TUN_F_USO4 | libc::TUN_F_USO6),
        ];
        let word = flags
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |word, (_, flag)| word | flag);
        // SAFETY: the request takes its flags as a number.
        let result = unsafe {
            libc::ioctl(
                self.descriptor.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(word),
            )
        };
        match result {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Lets frames come to this descriptor, or to the tap's others alone: for one of a tap with
    /// several (IFF_MULTI_QUEUE) that is in the other state.
    pub(crate) fn attach(&self, attached: bool) -> io::Result<()> {
        let flag = match attached {
            true => libc::IFF_ATTACH_QUEUE,
            false => libc::IFF_DETACH_QUEUE,
        };
        // SAFETY: all zeros are valid for this structure of integers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flag).unwrap_or(0);
        // SAFETY: the request takes a pointer to an ifreq, which lives through the call.
        let result = unsafe {
            libc::ioctl(
                self.descriptor.as_raw_fd(),
                libc::TUNSETQUEUE,
                &raw const request,
            )
        };
        match result {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Reads one frame with its header. `WouldBlock` when there is none.
    pub(crate) fn read(&self, target: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let segments = segments(&[], target);
        let count = count(&segments)?;
        // SAFETY: the segments point into memory that the caller's borrowed slices keep mapped
        // and writable; nothing in this process assumes what it holds.
        let read = unsafe { libc::readv(self.descriptor.as_raw_fd(), segments.as_ptr(), count) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes one frame behind `header`.
    pub(crate) fn write(&self, header: &[u8], frame: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let segments = segments(header, frame);
        let count = count(&segments)?;
        // SAFETY: as in `read`, and the segments are only read from.
        let written =
            unsafe { libc::writev(self.descriptor.as_raw_fd(), segments.as_ptr(), count) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn segments(header: &[u8], slices: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    let mut segments = Vec::with_capacity(slices.len() + 1);
    if !header.is_empty() {
        segments.push(libc::iovec {
            iov_base: header.as_ptr().cast_mut().cast(),
            iov_len: header.len(),
        });
    }
    segments.extend(
        slices
            .iter()
            .filter(|slice| !slice.is_empty())
            .map(|slice| libc::iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            }),
    );
    segments
}

fn count(segments: &[libc::iovec]) -> io::Result<libc::c_int> {
    if segments.len() > MAX_SEGMENTS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    libc::c_int::try_from(segments.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
