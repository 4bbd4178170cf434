//! AF_VSOCK connections to the host.
//!
//! Called by `transport`.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::last;

/// Connects to `port` of the context `cid`. A socket with [`SocketFlags::NONBLOCK`] is returned
/// while the connection is still being made.
pub(crate) fn connect(cid: u32, port: u32, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let socket = socket_with(
        AddressFamily::VSOCK,
        SocketType::STREAM,
        flags | SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all zeros are valid for this structure of integers.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = AddressFamily::VSOCK.as_raw();
    address.svm_cid = cid;
    address.svm_port = port;
    let length =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_vm>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the address is a complete sockaddr_vm, passed with its size.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    match result {
        0 => Ok(socket),
        _ => match last() {
            Errno::INPROGRESS => Ok(socket),
            error => Err(error),
        },
    }
}
