//! A descriptor chain as pieces of guest memory.
//!
//! Every address and length in a chain is the guest's: each piece is looked up in guest memory as
//! a whole, never computed from another one, so that a wrong length finds no memory
//! (CVE-2019-18960). The pieces may overlap, and change while they are used.

use std::ops::Deref;

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestMemory as _, GuestMemoryMmap, VolatileSlice};

/// Pieces that one chain may have; Linux uses at most 18.
const MAX_PIECES: usize = 64;

/// Why a chain is no buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BufferError {
    /// A descriptor goes the other way.
    #[error("a descriptor is of the wrong direction")]
    Direction,
    /// A descriptor lies outside guest memory.
    #[error("a descriptor lies outside guest memory")]
    Address,
    /// There are too many descriptors.
    #[error("there are more than {MAX_PIECES} descriptors")]
    Pieces,
    /// There are fewer bytes than needed.
    #[error("the descriptors are too short")]
    Length,
}

/// Pieces of guest memory, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    length: usize,
}

impl<'m> Buffers<'m> {
    /// The memory of `chain`, all of it device-writable or all of it device-readable.
    pub(super) fn new<M>(
        memory: &'m GuestMemoryMmap,
        chain: DescriptorChain<M>,
        writable: bool,
    ) -> Result<Self, BufferError>
    where
        M: Deref<Target = GuestMemoryMmap>,
    {
        let mut buffers = Self::default();
        for (index, descriptor) in chain.enumerate() {
            if index == MAX_PIECES {
                return Err(BufferError::Pieces);
            }
            if descriptor.is_write_only() != writable {
                return Err(BufferError::Direction);
            }
            buffers.take(memory, &descriptor)?;
        }
        Ok(buffers)
    }

    /// The memory of `chain`: what the device reads, and after that what it writes.
    pub(super) fn both<M>(
        memory: &'m GuestMemoryMmap,
        chain: DescriptorChain<M>,
    ) -> Result<(Self, Self), BufferError>
    where
        M: Deref<Target = GuestMemoryMmap>,
    {
        let (mut readable, mut writable) = (Self::default(), Self::default());
        for descriptor in chain {
            let target = match (descriptor.is_write_only(), writable.pieces.is_empty()) {
                (true, _) => &mut writable,
                (false, true) => &mut readable,
                (false, false) => return Err(BufferError::Direction),
            };
            target.take(memory, &descriptor)?;
        }
        Ok((readable, writable))
    }

    /// Adds the memory of `descriptor`.
    fn take(
        &mut self,
        memory: &'m GuestMemoryMmap,
        descriptor: &Descriptor,
    ) -> Result<(), BufferError> {
        let length = usize::try_from(descriptor.len()).map_err(|_| BufferError::Address)?;
        for piece in memory.get_slices(descriptor.addr(), length) {
            if self.pieces.len() == MAX_PIECES {
                return Err(BufferError::Pieces);
            }
            self.push(piece.map_err(|_| BufferError::Address)?);
        }
        Ok(())
    }

    /// The length of all pieces in bytes; at most `u32::MAX`, by the chain's own limit.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces.
    pub(super) fn pieces(&self) -> &[VolatileSlice<'m>] {
        &self.pieces
    }

    /// The first `length` bytes, and what follows them.
    pub(super) fn split_at(self, length: usize) -> Result<(Self, Self), BufferError> {
        let (mut head, mut tail) = (Self::default(), Self::default());
        for piece in self.pieces {
            let wanted = length - head.length;
            if wanted == 0 {
                tail.push(piece);
            } else if piece.len() <= wanted {
                head.push(piece);
            } else {
                let (before, after) = piece.split_at(wanted).map_err(|_| BufferError::Length)?;
                head.push(before);
                tail.push(after);
            }
        }
        match head.length == length {
            true => Ok((head, tail)),
            false => Err(BufferError::Length),
        }
    }

    /// Copies the bytes from `skip` on out into `target`, as far as they go, and returns how many
    /// they were.
    pub(super) fn copy_to(&self, skip: usize, target: &mut [u8]) -> usize {
        let (mut skip, mut copied) = (skip, 0);
        for piece in &self.pieces {
            let now = skip.min(piece.len());
            skip -= now;
            if let (Ok(piece), Some(rest)) = (piece.offset(now), target.get_mut(copied..)) {
                copied += piece.copy_to(rest);
            }
        }
        copied
    }

    /// Copies `source`, which is exactly as long, into the pieces.
    pub(super) fn copy_from(&self, source: &[u8]) -> Result<(), BufferError> {
        let mut rest = source;
        for piece in &self.pieces {
            let (now, later) = rest.split_at(piece.len().min(rest.len()));
            piece.write_slice(now, 0).map_err(|_| BufferError::Length)?;
            rest = later;
        }
        Ok(())
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: VolatileSlice<'m>) {
        self.length = self.length.saturating_add(piece.len());
        self.pieces.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_may_lie_across_pieces() {
        let (mut one, mut two) = ([1, 2, 3], [4, 5, 6]);
        let mut buffers = Buffers::default();
        buffers.push(VolatileSlice::from(one.as_mut_slice()));
        buffers.push(VolatileSlice::from(two.as_mut_slice()));
        let (head, tail) = buffers.split_at(4).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(head.copy_to(0, &mut bytes), 4);
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!(tail.len(), 2);
        head.copy_from(&[9, 8, 7, 6]).unwrap();
        assert_eq!(head.copy_to(0, &mut bytes), 4);
        assert_eq!(bytes, [9, 8, 7, 6]);
        assert_eq!(head.split_at(5).unwrap_err(), BufferError::Length);
    }
}
