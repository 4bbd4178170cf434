//! The language of the control and cursor queues: virtio 1.2, section 5.7.6, and its extensions
//! for blobs, contexts of several kinds and resource UUIDs.
//!
//! The queues' server calls [`Header::parse`], then [`Command::parse`], acts on what it got, and
//! answers with [`Response`] or [`Refusal`]. The bytes are the guest's: parsing copies nothing
//! that has the guest's size, and a command that is not one becomes a [`Malformed`].

mod command;
mod response;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use command::{Backing3d, BlobMemory, Command, CreateBlob, Shape3d, Transfer3d};
pub(crate) use response::{Refusal, Response};
pub(crate) use wire::{Box3d, MemoryEntry};

use wire::RawHeader;
use zerocopy::FromBytes;

/// Length of the header that commands and responses begin with.
pub(crate) const HEADER_LENGTH: usize = size_of::<RawHeader>();

const FLAG_FENCE: u32 = 1 << 0;
const FLAG_RING: u32 = 1 << 1;

/// The header of a command: `struct virtio_gpu_ctrl_hdr`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// What the command is.
    pub(crate) kind: u32,
    /// The fence that the guest waits for, if it does.
    pub(crate) fence: Option<u64>,
    /// The context that the command is for.
    pub(crate) context: u32,
    /// The ring of the context that the fence is on; without one, it is on the device's.
    pub(crate) ring: Option<u8>,
}

impl Header {
    /// The header at the beginning of a command, and what follows it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (raw, body) = RawHeader::read_from_prefix(bytes).ok()?;
        let flags = raw.flags.get();
        let header = Self {
            kind: raw.kind.get(),
            fence: (flags & FLAG_FENCE != 0).then_some(raw.fence.get()),
            context: raw.context.get(),
            ring: (flags & FLAG_RING != 0).then_some(raw.ring),
        };
        Some((header, body))
    }

    /// The header of the answer of this kind: Linux finds the fence by what is repeated there.
    fn answer(&self, kind: u32) -> RawHeader {
        let fence = if self.fence.is_some() { FLAG_FENCE } else { 0 };
        let ring = if self.ring.is_some() { FLAG_RING } else { 0 };
        RawHeader {
            kind: kind.into(),
            flags: (fence | ring).into(),
            fence: self.fence.unwrap_or(0).into(),
            context: self.context.into(),
            ring: self.ring.unwrap_or(0),
            padding: [0; 3],
        }
    }
}
