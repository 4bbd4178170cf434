//! The header in front of every frame: virtio 1.2, section 5.1.6.
//!
//! Called by the transmit queue for what the guest sends. Everything in it is the guest's; what
//! comes out of [`check`] is what the negotiated features allow, and its offsets lie inside the
//! frame. The host's kernel reads it next, and checks again.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_USO, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
    VIRTIO_NET_HDR_GSO_UDP_L4,
};
use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The header's length in bytes.
pub(super) const HEADER_LENGTH: usize = size_of::<Header>();

/// Where the number of buffers is in it.
pub(super) const BUFFERS_OFFSET: usize = 10;

/// An Ethernet header, the least that a frame has.
const ETHERNET: usize = 14;

/// Two VLAN tags, which no MTU counts.
const TAGS: usize = 8;

/// The longest IP packet, which a frame to be segmented may hold.
pub(super) const LONGEST_PACKET: usize = 65_535;

/// The header as it lies in guest memory.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    FromBytes,
    Immutable,
    IntoBytes,
    KnownLayout,
    PartialEq,
    Unaligned,
)]
#[repr(C)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    pub(super) header_length: U16,
    pub(super) gso_size: U16,
    pub(super) checksum_start: U16,
    pub(super) checksum_offset: U16,
    pub(super) buffers: U16,
}

/// What the guest may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The features that its driver accepted.
    pub(super) features: u64,
    /// The largest packet that is not to be segmented.
    pub(super) mtu: u16,
}

/// Why a frame of the guest's is dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum HeaderError {
    /// It has no Ethernet header.
    #[error("a frame of {0} bytes is none")]
    Runt(usize),
    /// It is longer than the link takes.
    #[error("a frame of {0} bytes is too long")]
    Giant(usize),
    /// A checksum outside of it, or one that was not negotiated.
    #[error("a checksum at {start}+{offset} of a frame of {length} bytes")]
    Checksum {
        start: u16,
        offset: u16,
        length: usize,
    },
    /// Segmentation of a kind that was not negotiated, or of what is no such packet.
    #[error("segmentation of type {kind:#x} into {size} bytes of a frame of {length} bytes")]
    Segmentation { kind: u8, size: u16, length: usize },
}

/// Checks the header of a frame of `length` bytes; what the host's kernel may see of it.
pub(super) fn check(header: &Header, length: usize, rules: Rules) -> Result<Header, HeaderError> {
    let has = |feature: u32| rules.features & 1 << feature != 0;
    if length < ETHERNET {
        return Err(HeaderError::Runt(length));
    }
    // Flags that a device does not know it ignores; of those that it knows this is the driver's.
    let needs_checksum = u32::from(header.flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0;
    let mut clean = Header::default();
    if needs_checksum {
        let (start, offset) = (header.checksum_start.get(), header.checksum_offset.get());
        let end = usize::from(start) + usize::from(offset) + size_of::<u16>();
        if !has(VIRTIO_NET_F_CSUM) || usize::from(start) < ETHERNET || end > length {
            return Err(HeaderError::Checksum {
                start,
                offset,
                length,
            });
        }
        clean.flags = 1;
        clean.checksum_start = header.checksum_start;
        clean.checksum_offset = header.checksum_offset;
    }
    let kind = u32::from(header.gso_type);
    if kind == VIRTIO_NET_HDR_GSO_NONE {
        let longest = usize::from(rules.mtu) + ETHERNET + TAGS;
        return match length <= longest {
            true => Ok(clean),
            false => Err(HeaderError::Giant(length)),
        };
    }
    if length > LONGEST_PACKET + ETHERNET + TAGS {
        return Err(HeaderError::Giant(length));
    }
    let ecn = kind & VIRTIO_NET_HDR_GSO_ECN != 0;
    let negotiated = match kind & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_TCPV4 => has(VIRTIO_NET_F_HOST_TSO4),
        VIRTIO_NET_HDR_GSO_TCPV6 => has(VIRTIO_NET_F_HOST_TSO6),
        VIRTIO_NET_HDR_GSO_UDP_L4 => has(VIRTIO_NET_F_HOST_USO) && !ecn,
        _ => false,
    };
    let size = header.gso_size.get();
    let headers = usize::from(header.header_length.get());
    if !negotiated
        || ecn && !has(VIRTIO_NET_F_HOST_ECN)
        || !needs_checksum
        || size == 0
        || size > rules.mtu
        || headers > length
    {
        return Err(HeaderError::Segmentation {
            kind: header.gso_type,
            size,
            length,
        });
    }
    Ok(Header {
        gso_type: header.gso_type,
        gso_size: header.gso_size,
        header_length: header.header_length,
        ..clean
    })
}

/// For fuzzing: what is let through points into its frame.
#[cfg(any(test, fuzzing))]
#[cfg_attr(
    not(fuzzing),
    allow(unreachable_pub, reason = "only the fuzzer is outside")
)]
pub mod fuzz {
    use super::{FromBytes, HEADER_LENGTH, Header, Rules, check};

    /// Checks a header; the bytes hold it, the frame's length and the features.
    pub fn header(bytes: &[u8]) {
        let Some((header, rest)) = bytes.split_at_checked(HEADER_LENGTH) else {
            return;
        };
        let (Ok(header), Some(rest)) = (Header::read_from_bytes(header), rest.first_chunk::<12>())
        else {
            return;
        };
        let [a, b, c, mtu, features @ ..] = *rest;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let rules = Rules {
            features: u64::from_le_bytes(features),
            mtu: u16::from(mtu) << 6 | 68,
        };
        let Ok(clean) = check(&header, length, rules) else {
            return;
        };
        let start = usize::from(clean.checksum_start.get());
        let end = start + usize::from(clean.checksum_offset.get()) + 2;
        assert!(clean.flags == 0 || end <= length);
        assert!(usize::from(clean.header_length.get()) <= length);
        assert!(clean.gso_type == 0 || clean.gso_size.get() > 0);
        assert_eq!(clean.buffers.get(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << VIRTIO_NET_F_CSUM
        | 1 << VIRTIO_NET_F_HOST_TSO4
        | 1 << VIRTIO_NET_F_HOST_TSO6
        | 1 << VIRTIO_NET_F_HOST_ECN
        | 1 << VIRTIO_NET_F_HOST_USO;

    fn rules(features: u64) -> Rules {
        Rules {
            features,
            mtu: 1500,
        }
    }

    fn segments(kind: u8) -> Header {
        Header {
            flags: 1,
            gso_type: kind,
            header_length: 54.into(),
            gso_size: 1448.into(),
            checksum_start: 34.into(),
            checksum_offset: 16.into(),
            buffers: 0.into(),
        }
    }

    #[test]
    fn honest_headers_pass_unchanged() {
        for (header, length) in [
            (Header::default(), 14),
            (Header::default(), 1514),
            (Header::default(), 1522),
            (
                Header {
                    gso_type: 0,
                    gso_size: 0.into(),
                    header_length: 0.into(),
                    ..segments(0)
                },
                60,
            ),
            (segments(1), 65_549),
            (segments(4), 30_000),
            (segments(0x81), 30_000),
            (segments(5), 30_000),
        ] {
            assert_eq!(check(&header, length, rules(ALL)), Ok(header));
        }
    }

    #[test]
    fn what_the_driver_must_not_set_is_cleared() {
        let header = Header {
            flags: 0xfe,
            header_length: 7.into(),
            gso_size: 9.into(),
            checksum_start: 0xffff.into(),
            checksum_offset: 0xffff.into(),
            buffers: 0xffff.into(),
            ..Header::default()
        };
        assert_eq!(check(&header, 60, rules(ALL)), Ok(Header::default()));
    }

    #[test]
    fn runts_and_giants_are_dropped() {
        let plain = Header::default();
        for length in [0, 1, 13] {
            assert_eq!(
                check(&plain, length, rules(ALL)),
                Err(HeaderError::Runt(length))
            );
        }
        for length in [1523, 65_549, usize::MAX] {
            assert_eq!(
                check(&plain, length, rules(ALL)),
                Err(HeaderError::Giant(length))
            );
        }
        let length = 65_535 + 14 + 9;
        assert_eq!(
            check(&segments(1), length, rules(ALL)),
            Err(HeaderError::Giant(length))
        );
    }

    #[test]
    fn a_checksum_lies_inside_the_frame() {
        for (start, offset) in [(34, 25), (60, 0), (0xffff, 0xffff), (13, 0), (0, 16)] {
            let header = Header {
                flags: 1,
                checksum_start: start.into(),
                checksum_offset: offset.into(),
                ..Header::default()
            };
            let error = check(&header, 60, rules(ALL)).unwrap_err();
            assert!(matches!(error, HeaderError::Checksum { .. }), "{error}");
        }
    }

    #[test]
    fn segmentation_that_lies_or_was_not_negotiated_is_dropped() {
        let lies = [
            Header {
                gso_size: 0.into(),
                ..segments(1)
            },
            Header {
                gso_size: 1501.into(),
                ..segments(1)
            },
            Header {
                header_length: 30_001.into(),
                ..segments(1)
            },
            Header {
                flags: 0,
                ..segments(1)
            },
            // UDP fragmentation, ECN of UDP and of nothing, and what is no type.
            segments(3),
            segments(0x85),
            segments(0x80),
            segments(2),
            segments(0x7f),
            segments(0xff),
        ];
        for header in lies {
            let error = check(&header, 30_000, rules(ALL)).unwrap_err();
            assert!(matches!(error, HeaderError::Segmentation { .. }), "{error}");
        }
        for kind in [1, 4, 5] {
            let csum_only = rules(1 << VIRTIO_NET_F_CSUM);
            assert!(check(&segments(kind), 30_000, csum_only).is_err());
        }
        assert!(check(&segments(0), 60, rules(0)).is_err());
    }

    #[test]
    fn random_headers_never_point_outside() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..200_000 {
            let words = [random(), random(), random()];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            fuzz::header(&bytes);
        }
    }
}
