//! Taps: the ends of a VM's links. A tap lives as long as its descriptors, of which it has one for
//! each pair of queues of its NIC.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use krun_gpu_netlink::{Link, LinkChange, Netlink};

use super::NetworkError;

/// The device that makes them.
pub(crate) const DEVICE: &str = "/dev/net/tun";

/// The device that lets the host's kernel move a tap's frames to and from a VM.
pub(crate) const VHOST: &str = "/dev/vhost-net";

/// Opens a vhost-net for one tap. Not every host has it, nor for everybody.
pub(crate) fn open_vhost() -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open(VHOST)?;
    Ok(file.into())
}

/// Makes a tap called `name` in this thread's network namespace, for the frames of `link`, with
/// `pairs` descriptors: frames come to the first alone, until the guest wants more.
pub(super) fn make(
    netlink: &mut Netlink,
    name: &str,
    link: &Link,
    pairs: u8,
) -> Result<(Vec<OwnedFd>, Link), NetworkError> {
    let descriptors = (0..pairs.max(1)).map(|pair| open(name, pair, pairs > 1));
    let descriptors = descriptors
        .collect::<io::Result<Vec<OwnedFd>>>()
        .map_err(|source| NetworkError::Tap {
            name: link.name.clone(),
            source,
        })?;
    let tap = netlink.link(name)?;
    let change = LinkChange {
        mtu: Some(link.mtu),
        ..LinkChange::default()
    };
    netlink.set_link(tap.index, change)?;
    let silent = LinkChange {
        own_address: Some(false),
        ..LinkChange::default()
    };
    match netlink.set_link(tap.index, silent) {
        // A kernel without IPv6.
        Err(error) if error.errno() == Some(libc::EAFNOSUPPORT) => {}
        result => result?,
    }
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(tap.index, up)?;
    Ok((descriptors, tap))
}

fn open(name: &str, pair: u8, several: bool) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    // SAFETY: all zeros are valid for this structure of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if several {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or(0);
    // SAFETY: the request is a complete ifreq that lives through the call; the name is shorter
    // than its field, so it ends with a NUL.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if pair > 0 {
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_DETACH_QUEUE).unwrap_or(0);
        // SAFETY: as above.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETQUEUE, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(file.into())
}
