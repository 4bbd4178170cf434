//! What a NIC is plugged into: the host's end of its link.

use std::fmt::Debug;
use std::io;
use std::os::fd::AsFd;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
};
use vm_memory::VolatileSlice;

use crate::sys::tap::{Offloads, Tap};

/// Frames with headers, in and out, without waiting.
pub(super) trait Wire: AsFd + Debug + Send {
    /// Reads a header and a frame; `WouldBlock` when there is none.
    fn read(&self, target: &[VolatileSlice<'_>]) -> io::Result<usize>;

    /// Writes a frame behind `header`.
    fn write(&self, header: &[u8], frame: &[VolatileSlice<'_>]) -> io::Result<usize>;

    /// Whether a frame that finds no room waits for it; else it is lost.
    fn holds_up(&self) -> bool {
        false
    }

    /// Writes what is left of a frame.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether frames come: asked only of one of several wires to the same interface.
    fn enable(&self, _enabled: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What the guest's driver accepted: frames that are read may be of that kind.
    fn accept(&self, features: u64) -> io::Result<()>;
}

impl Wire for Tap {
    fn read(&self, target: &[VolatileSlice<'_>]) -> io::Result<usize> {
        Self::read(self, target)
    }

    fn write(&self, header: &[u8], frame: &[VolatileSlice<'_>]) -> io::Result<usize> {
        Self::write(self, header, frame)
    }

    fn enable(&self, enabled: bool) -> io::Result<()> {
        self.attach(enabled)
    }

    fn accept(&self, features: u64) -> io::Result<()> {
        let has = |feature: u32| features & 1 << feature != 0;
        self.set_offloads(Offloads {
            checksums: has(VIRTIO_NET_F_GUEST_CSUM),
            tcp4: has(VIRTIO_NET_F_GUEST_TSO4),
            tcp6: has(VIRTIO_NET_F_GUEST_TSO6),
            ecn: has(VIRTIO_NET_F_GUEST_ECN),
            udp: has(VIRTIO_NET_F_GUEST_USO4) && has(VIRTIO_NET_F_GUEST_USO6),
        })
    }
}
