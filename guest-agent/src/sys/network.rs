//! Brings the loopback interface up.
//!
//! Called by `boot` once per guest.

use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};

use super::last;

/// `IFF_UP` of linux/if.h, in the type of the request.
const UP: libc::c_short = 1;

/// `ip link set lo up`.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all zeros are valid for this structure of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = UP;
    // SAFETY: the request is a complete ifreq that the kernel only reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 { Err(last()) } else { Ok(()) }
}
