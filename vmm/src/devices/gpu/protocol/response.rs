//! Answers to commands.

use zerocopy::IntoBytes;

use super::{HEADER_LENGTH, Header};

/// Displays in the answer to `GET_DISPLAY_INFO`, and bytes for each.
const DISPLAYS: usize = 16 * 24;

/// A command was carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Response {
    /// There is nothing to say about it.
    Done,
    /// There is no display.
    NoDisplay,
    /// A capability set.
    CapsetInfo {
        /// Its id.
        id: u32,
        /// Its newest version.
        version: u32,
        /// Its size in bytes.
        size: u32,
    },
    /// The contents of a capability set.
    Capset(Vec<u8>),
    /// A resource's name.
    Uuid([u8; 16]),
    /// How the guest is to map the blob (`VIRTIO_GPU_MAP_CACHE_*`).
    Mapped(u32),
}

/// A command was not carried out (`VIRTIO_GPU_RESP_ERR_*`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// It is no command, or the renderer did not like it.
    Unspecified,
    /// It would take more than the guest may have.
    OutOfMemory,
    /// There is no such display.
    Scanout,
    /// There is no such resource, or there is one already.
    Resource,
    /// There is no such context, or there is one already.
    Context,
    /// A number makes no sense.
    Parameter,
}

impl Response {
    /// The answer's bytes, for the command with this header.
    pub(crate) fn bytes(&self, header: &Header) -> Vec<u8> {
        let kind = match self {
            Self::Done => 0x1100,
            Self::NoDisplay => 0x1101,
            Self::CapsetInfo { .. } => 0x1102,
            Self::Capset(_) => 0x1103,
            Self::Uuid(_) => 0x1105,
            Self::Mapped(_) => 0x1106,
        };
        let mut bytes = header.answer(kind).as_bytes().to_vec();
        match self {
            Self::Done => {}
            Self::NoDisplay => bytes.resize(HEADER_LENGTH + DISPLAYS, 0),
            Self::CapsetInfo { id, version, size } => {
                for number in [*id, *version, *size, 0] {
                    bytes.extend(number.to_le_bytes());
                }
            }
            Self::Capset(contents) => bytes.extend(contents),
            Self::Uuid(uuid) => bytes.extend(uuid),
            Self::Mapped(cache) => {
                bytes.extend(cache.to_le_bytes());
                bytes.extend([0; 4]);
            }
        }
        bytes
    }
}

impl Refusal {
    /// The answer's bytes, for the command with this header.
    pub(crate) fn bytes(self, header: &Header) -> Vec<u8> {
        let kind = match self {
            Self::Unspecified => 0x1200,
            Self::OutOfMemory => 0x1201,
            Self::Scanout => 0x1202,
            Self::Resource => 0x1203,
            Self::Context => 0x1204,
            Self::Parameter => 0x1205,
        };
        header.answer(kind).as_bytes().to_vec()
    }
}
