//! How the agent reaches its host: vsock in a guest, a folder of Unix sockets in the tests.
//!
//! Called by `boot` for the control connection and by `stdio/` for each stream.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::sys::vsock;

/// A way to the host.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Ports of the host's context id.
    Vsock {
        /// The host's context id.
        cid: u32,
    },
    /// A folder in which the socket of port N is called `N`.
    Unix {
        /// The folder.
        folder: PathBuf,
    },
}

impl Transport {
    /// A blocking connection to `port`.
    pub fn connect(&self, port: u32) -> io::Result<OwnedFd> {
        self.open(port, SocketFlags::empty())
    }

    /// A connection that may still be under way; the socket does not block.
    pub(crate) fn begin(&self, port: u32) -> io::Result<OwnedFd> {
        self.open(port, SocketFlags::NONBLOCK)
    }

    fn open(&self, port: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
        match self {
            Self::Vsock { cid } => Ok(vsock::connect(*cid, port, flags)?),
            Self::Unix { folder } => {
                let socket = socket_with(
                    AddressFamily::UNIX,
                    SocketType::STREAM,
                    flags | SocketFlags::CLOEXEC,
                    None,
                )?;
                connect(
                    &socket,
                    &SocketAddrUnix::new(folder.join(port.to_string()))?,
                )?;
                Ok(socket)
            }
        }
    }
}
