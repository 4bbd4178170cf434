//! The VM's virtio-serial ports: each one end of a socket pair, the other end with QEMU.

use std::os::{
    fd::{AsRawFd, OwnedFd},
    unix::net::UnixStream,
};

use super::VmError;

/// What a port is in the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PortKind {
    /// A stream of bytes, `/dev/vportNpM`.
    Stream,
    /// A terminal, `/dev/hvc0`.
    Terminal,
}

/// QEMU's end of a port.
#[derive(Debug)]
pub(super) struct Port {
    name: &'static str,
    kind: PortKind,
    descriptor: OwnedFd,
}

impl Port {
    /// A new port and our end of it.
    pub(super) fn new(name: &'static str, kind: PortKind) -> Result<(Self, UnixStream), VmError> {
        let (ours, theirs) = UnixStream::pair()
            .map_err(|error| VmError::Stream("make a socket pair for a port", error))?;
        let descriptor = OwnedFd::from(theirs);
        let port = Self {
            name,
            kind,
            descriptor,
        };
        Ok((port, ours))
    }

    /// QEMU's arguments for it.
    pub(super) fn arguments(&self) -> [String; 4] {
        let Self { name, .. } = self;
        let device = match self.kind {
            PortKind::Stream => format!("virtserialport,chardev={name},name={name}"),
            PortKind::Terminal => format!("virtconsole,chardev={name}"),
        };
        let number = self.descriptor.as_raw_fd();
        [
            "-chardev".to_owned(),
            format!("socket,id={name},fd={number}"),
            "-device".to_owned(),
            device,
        ]
    }

    /// The descriptor that QEMU must inherit.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}
