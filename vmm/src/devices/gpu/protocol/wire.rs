//! The structures as they lie in the guest's buffers, little-endian and at any address.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Declares structures of the protocol.
macro_rules! wire {
    ($($(#[$attribute:meta])* $visibility:vis struct $name:ident {
        $($field_visibility:vis $field:ident: $kind:ty,)*
    })*) => {$(
        $(#[$attribute])*
        #[derive(
            Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
        )]
        #[repr(C)]
        $visibility struct $name {
            $($field_visibility $field: $kind,)*
        }
    )*};
}

wire! {
    pub(super) struct RawHeader {
        pub(super) kind: U32,
        pub(super) flags: U32,
        pub(super) fence: U64,
        pub(super) context: U32,
        pub(super) ring: u8,
        pub(super) padding: [u8; 3],
    }

    /// A rectangle in pixels.
    pub(crate) struct Rectangle {
        pub(crate) x: U32,
        pub(crate) y: U32,
        pub(crate) width: U32,
        pub(crate) height: U32,
    }

    /// A box of a three-dimensional resource.
    pub(crate) struct Box3d {
        pub(crate) x: U32,
        pub(crate) y: U32,
        pub(crate) z: U32,
        pub(crate) width: U32,
        pub(crate) height: U32,
        pub(crate) depth: U32,
    }

    /// A piece of guest memory that backs a resource.
    pub(crate) struct MemoryEntry {
        pub(crate) address: U64,
        pub(crate) length: U32,
        pub(crate) padding: U32,
    }

    pub(super) struct One {
        pub(super) number: U32,
        pub(super) second: U32,
    }

    pub(super) struct Create2d {
        pub(super) resource: U32,
        pub(super) format: U32,
        pub(super) width: U32,
        pub(super) height: U32,
    }

    pub(super) struct SetScanout {
        pub(super) rectangle: Rectangle,
        pub(super) scanout: U32,
        pub(super) resource: U32,
    }

    pub(super) struct SetScanoutBlob {
        pub(super) rectangle: Rectangle,
        pub(super) scanout: U32,
        pub(super) resource: U32,
        pub(super) width: U32,
        pub(super) height: U32,
        pub(super) format: U32,
        pub(super) padding: U32,
        pub(super) strides: [U32; 4],
        pub(super) offsets: [U32; 4],
    }

    pub(super) struct Flush {
        pub(super) rectangle: Rectangle,
        pub(super) resource: U32,
        pub(super) padding: U32,
    }

    pub(super) struct Transfer2d {
        pub(super) rectangle: Rectangle,
        pub(super) offset: U64,
        pub(super) resource: U32,
        pub(super) padding: U32,
    }

    pub(super) struct RawBlob {
        pub(super) resource: U32,
        pub(super) memory: U32,
        pub(super) flags: U32,
        pub(super) entries: U32,
        pub(super) blob: U64,
        pub(super) size: U64,
    }

    pub(super) struct CreateContext {
        pub(super) name_length: U32,
        pub(super) init: U32,
        pub(super) name: [u8; 64],
    }

    pub(super) struct Create3d {
        pub(super) resource: U32,
        pub(super) target: U32,
        pub(super) format: U32,
        pub(super) bind: U32,
        pub(super) width: U32,
        pub(super) height: U32,
        pub(super) depth: U32,
        pub(super) array_size: U32,
        pub(super) last_level: U32,
        pub(super) samples: U32,
        pub(super) flags: U32,
        pub(super) padding: U32,
    }

    pub(super) struct RawTransfer3d {
        pub(super) area: Box3d,
        pub(super) offset: U64,
        pub(super) resource: U32,
        pub(super) level: U32,
        pub(super) stride: U32,
        pub(super) layer_stride: U32,
    }

    pub(super) struct MapBlob {
        pub(super) resource: U32,
        pub(super) padding: U32,
        pub(super) offset: U64,
    }

    pub(super) struct Cursor {
        pub(super) scanout: U32,
        pub(super) x: U32,
        pub(super) y: U32,
        pub(super) padding: U32,
        pub(super) resource: U32,
        pub(super) hot_x: U32,
        pub(super) hot_y: U32,
        pub(super) padding2: U32,
    }
}
