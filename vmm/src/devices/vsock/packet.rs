//! The packet header: virtio 1.2, section 5.10.6. Its bytes are the guest's; nothing here acts
//! on them.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a header in bytes.
pub(super) const HEADER_LENGTH: usize = size_of::<Header>();

/// Context id of the host.
pub(super) const HOST_CID: u64 = 2;

/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub(super) const TYPE_STREAM: u16 = 1;

/// The header that every packet begins with.
#[derive(
    Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
pub(super) struct Header {
    pub(super) src_cid: U64,
    pub(super) dst_cid: U64,
    pub(super) src_port: U32,
    pub(super) dst_port: U32,
    pub(super) len: U32,
    pub(super) kind: U16,
    pub(super) op: U16,
    pub(super) flags: U32,
    pub(super) buf_alloc: U32,
    pub(super) fwd_cnt: U32,
}

impl Header {
    /// The reset that answers a packet which belongs to no connection.
    pub(super) fn reset_for(refused: &Header) -> Self {
        Self {
            src_cid: refused.dst_cid,
            dst_cid: refused.src_cid,
            src_port: refused.dst_port,
            dst_port: refused.src_port,
            kind: refused.kind,
            op: Operation::Reset.into(),
            ..Self::default()
        }
    }
}

/// What a packet does (`VIRTIO_VSOCK_OP_*`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operation {
    /// Opens a connection.
    Request,
    /// Accepts one.
    Response,
    /// Ends one, or refuses it.
    Reset,
    /// Ends one direction of it, or both ([`Shutdown`]).
    Shutdown,
    /// Carries data.
    Data,
    /// Tells the sender's buffer space.
    CreditUpdate,
    /// Asks for a credit update.
    CreditRequest,
}

impl Operation {
    /// The operation of this number, if it is one.
    pub(super) fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

impl From<Operation> for U16 {
    fn from(operation: Operation) -> Self {
        U16::new(match operation {
            Operation::Request => 1,
            Operation::Response => 2,
            Operation::Reset => 3,
            Operation::Shutdown => 4,
            Operation::Data => 5,
            Operation::CreditUpdate => 6,
            Operation::CreditRequest => 7,
        })
    }
}

/// The directions that a side has given up (`VIRTIO_VSOCK_SHUTDOWN_*`), as its sender sees them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Shutdown {
    /// It receives no more.
    pub(super) receive: bool,
    /// It sends no more.
    pub(super) send: bool,
}

impl Shutdown {
    /// Both directions.
    pub(super) const BOTH: Self = Self {
        receive: true,
        send: true,
    };

    /// Reads a header's `flags`; unknown bits mean nothing.
    pub(super) fn from_flags(flags: u32) -> Self {
        Self {
            receive: flags & 1 != 0,
            send: flags & 2 != 0,
        }
    }

    /// A header's `flags`.
    pub(super) fn flags(self) -> u32 {
        u32::from(self.receive) | u32::from(self.send) << 1
    }

    /// Both sides' flags together: a direction once given up stays so.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            receive: self.receive || other.receive,
            send: self.send || other.send,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_lies_as_the_specification_says() {
        assert_eq!(HEADER_LENGTH, 44);
        let header = Header {
            len: 0x0102_0304.into(),
            op: Operation::Data.into(),
            fwd_cnt: 9.into(),
            ..Header::default()
        };
        let bytes = header.as_bytes();
        assert_eq!(bytes[24..28], [4, 3, 2, 1]);
        assert_eq!(bytes[30..32], [5, 0]);
        assert_eq!(bytes[40..44], [9, 0, 0, 0]);
    }

    #[test]
    fn operations_have_their_numbers() {
        for number in 0..=u16::MAX {
            match Operation::from_number(number) {
                Some(operation) => assert_eq!(U16::from(operation).get(), number),
                None => assert!(number == 0 || number > 7),
            }
        }
    }
}
