//! Commands: what the guest asks for.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::Header;
use super::wire::{self, Box3d, MemoryEntry, Rectangle};

/// A command, with the numbers that the guest gave and no word on whether they make sense.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Command<'a> {
    /// Which displays there are.
    GetDisplayInfo,
    /// Makes an image.
    CreateResource2d {
        resource: u32,
        format: u32,
        width: u32,
        height: u32,
    },
    /// Forgets a resource.
    UnrefResource { resource: u32 },
    /// Shows a resource on a display.
    SetScanout {
        scanout: u32,
        resource: u32,
        rectangle: Rectangle,
    },
    /// Shows a blob on a display.
    SetScanoutBlob {
        scanout: u32,
        resource: u32,
        rectangle: Rectangle,
    },
    /// Shows what has changed of a resource.
    FlushResource { resource: u32, rectangle: Rectangle },
    /// Copies an image from its backing to the host.
    TransferToHost2d {
        resource: u32,
        rectangle: Rectangle,
        offset: u64,
    },
    /// Gives a resource guest memory.
    AttachBacking {
        resource: u32,
        entries: &'a [MemoryEntry],
    },
    /// Takes it back.
    DetachBacking { resource: u32 },
    /// Describes the capability set at an index.
    GetCapsetInfo { index: u32 },
    /// The contents of a capability set.
    GetCapset { id: u32, version: u32 },
    /// Describes a display.
    GetEdid { scanout: u32 },
    /// Names a resource for other devices.
    AssignUuid { resource: u32 },
    /// Makes a blob.
    CreateBlob(CreateBlob<'a>),
    /// Makes the context of the header.
    CreateContext { init: u32, name: &'a [u8] },
    /// Destroys the context of the header.
    DestroyContext,
    /// Lets the context of the header use a resource.
    AttachResource { resource: u32 },
    /// Undoes that.
    DetachResource { resource: u32 },
    /// Makes a texture or buffer.
    CreateResource3d { resource: u32, shape: Shape3d },
    /// Copies from a resource's backing to the host.
    TransferToHost3d(Transfer3d),
    /// Copies from the host to a resource's backing.
    TransferFromHost3d(Transfer3d),
    /// Runs commands in the context of the header.
    Submit { commands: &'a [u8] },
    /// Places a blob in the window.
    MapBlob { resource: u32, offset: u64 },
    /// Takes a blob out of the window.
    UnmapBlob { resource: u32 },
    /// Changes the pointer on a display.
    UpdateCursor { scanout: u32, resource: u32 },
    /// Moves it.
    MoveCursor { scanout: u32 },
}

/// `VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CreateBlob<'a> {
    /// The new resource's id.
    pub(crate) resource: u32,
    /// Where its memory is.
    pub(crate) memory: BlobMemory,
    /// `VIRTIO_GPU_BLOB_FLAG_*`.
    pub(crate) flags: u32,
    /// What the context knows the memory by.
    pub(crate) blob: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Guest memory that backs it.
    pub(crate) entries: &'a [MemoryEntry],
}

impl CreateBlob<'_> {
    /// The guest may map it.
    pub(crate) const MAPPABLE: u32 = 1 << 0;
    /// Every flag there is: mappable, shareable, usable by other devices.
    pub(crate) const ALL_FLAGS: u32 = (1 << 3) - 1;
}

/// Where a blob's memory is (`VIRTIO_GPU_BLOB_MEM_*`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BlobMemory {
    /// The guest's.
    Guest,
    /// The host's.
    Host3d,
    /// The host's, with a copy in the guest's.
    Host3dGuest,
}

/// What a texture or buffer is made of, in the renderer's own numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Shape3d {
    pub(crate) target: u32,
    pub(crate) format: u32,
    pub(crate) bind: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) depth: u32,
    pub(crate) array_size: u32,
    pub(crate) last_level: u32,
    pub(crate) samples: u32,
    pub(crate) flags: u32,
}

/// A copy between a resource and its backing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transfer3d {
    /// The resource.
    pub(crate) resource: u32,
    /// The part of it.
    pub(crate) area: Box3d,
    /// Where its bytes are in the backing.
    pub(crate) backing: Backing3d,
}

/// How a part of a resource lies in its backing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Backing3d {
    /// Byte where it begins.
    pub(crate) offset: u64,
    /// Mipmap level.
    pub(crate) level: u32,
    /// Bytes from row to row.
    pub(crate) stride: u32,
    /// Bytes from layer to layer.
    pub(crate) layer_stride: u32,
}

impl<'a> Command<'a> {
    /// The command that `header` announced and `body` holds.
    pub(crate) fn parse(header: &Header, body: &'a [u8]) -> Result<Self, Malformed> {
        let body = Body {
            kind: header.kind,
            bytes: body,
        };
        Ok(match header.kind {
            0x100 => Self::GetDisplayInfo,
            0x101 => {
                let (raw, _) = body.read::<wire::Create2d>()?;
                Self::CreateResource2d {
                    resource: raw.resource.get(),
                    format: raw.format.get(),
                    width: raw.width.get(),
                    height: raw.height.get(),
                }
            }
            0x102 => Self::UnrefResource {
                resource: body.number()?,
            },
            0x103 => {
                let (raw, _) = body.read::<wire::SetScanout>()?;
                Self::SetScanout {
                    scanout: raw.scanout.get(),
                    resource: raw.resource.get(),
                    rectangle: raw.rectangle,
                }
            }
            0x104 => {
                let (raw, _) = body.read::<wire::Flush>()?;
                Self::FlushResource {
                    resource: raw.resource.get(),
                    rectangle: raw.rectangle,
                }
            }
            0x105 => {
                let (raw, _) = body.read::<wire::Transfer2d>()?;
                Self::TransferToHost2d {
                    resource: raw.resource.get(),
                    rectangle: raw.rectangle,
                    offset: raw.offset.get(),
                }
            }
            0x106 => {
                let (raw, rest) = body.read::<wire::One>()?;
                Self::AttachBacking {
                    resource: raw.number.get(),
                    entries: rest.entries(raw.second.get())?,
                }
            }
            0x107 => Self::DetachBacking {
                resource: body.number()?,
            },
            0x108 => Self::GetCapsetInfo {
                index: body.number()?,
            },
            0x109 => {
                let (raw, _) = body.read::<wire::One>()?;
                Self::GetCapset {
                    id: raw.number.get(),
                    version: raw.second.get(),
                }
            }
            0x10a => Self::GetEdid {
                scanout: body.number()?,
            },
            0x10b => Self::AssignUuid {
                resource: body.number()?,
            },
            0x10c => Self::CreateBlob(body.blob()?),
            0x10d => {
                let (raw, _) = body.read::<wire::SetScanoutBlob>()?;
                Self::SetScanoutBlob {
                    scanout: raw.scanout.get(),
                    resource: raw.resource.get(),
                    rectangle: raw.rectangle,
                }
            }
            0x200 => body.context()?,
            0x201 => Self::DestroyContext,
            0x202 => Self::AttachResource {
                resource: body.number()?,
            },
            0x203 => Self::DetachResource {
                resource: body.number()?,
            },
            0x204 => body.texture()?,
            0x205 => Self::TransferToHost3d(body.transfer()?),
            0x206 => Self::TransferFromHost3d(body.transfer()?),
            0x207 => {
                let (raw, rest) = body.read::<wire::One>()?;
                let length = raw.number.get();
                Self::Submit {
                    commands: rest.take(u64::from(length))?,
                }
            }
            0x208 => {
                let (raw, _) = body.read::<wire::MapBlob>()?;
                Self::MapBlob {
                    resource: raw.resource.get(),
                    offset: raw.offset.get(),
                }
            }
            0x209 => Self::UnmapBlob {
                resource: body.number()?,
            },
            0x300 => {
                let (raw, _) = body.read::<wire::Cursor>()?;
                Self::UpdateCursor {
                    scanout: raw.scanout.get(),
                    resource: raw.resource.get(),
                }
            }
            0x301 => {
                let (raw, _) = body.read::<wire::Cursor>()?;
                Self::MoveCursor {
                    scanout: raw.scanout.get(),
                }
            }
            kind => return Err(Malformed::Unknown { kind }),
        })
    }
}

/// What follows the header.
#[derive(Clone, Copy)]
struct Body<'a> {
    kind: u32,
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    fn read<T: FromBytes>(self) -> Result<(T, Self), Malformed> {
        let (value, bytes) =
            T::read_from_prefix(self.bytes).map_err(|_| self.short(size_of::<T>() as u64))?;
        Ok((value, Self { bytes, ..self }))
    }

    /// The number that most commands are about: a resource's id.
    fn number(self) -> Result<u32, Malformed> {
        Ok(self.read::<wire::One>()?.0.number.get())
    }

    fn take(self, length: u64) -> Result<&'a [u8], Malformed> {
        usize::try_from(length)
            .ok()
            .and_then(|length| self.bytes.get(..length))
            .ok_or_else(|| self.short(length))
    }

    fn entries(self, count: u32) -> Result<&'a [MemoryEntry], Malformed> {
        let bytes = self.take(u64::from(count) * size_of::<MemoryEntry>() as u64)?;
        slice(bytes).ok_or_else(|| self.short(u64::from(count)))
    }

    fn blob(self) -> Result<CreateBlob<'a>, Malformed> {
        let (raw, rest) = self.read::<wire::RawBlob>()?;
        let memory = match raw.memory.get() {
            1 => BlobMemory::Guest,
            2 => BlobMemory::Host3d,
            3 => BlobMemory::Host3dGuest,
            memory => return Err(Malformed::BlobMemory { memory }),
        };
        Ok(CreateBlob {
            resource: raw.resource.get(),
            memory,
            flags: raw.flags.get(),
            blob: raw.blob.get(),
            size: raw.size.get(),
            entries: rest.entries(raw.entries.get())?,
        })
    }

    fn context(self) -> Result<Command<'a>, Malformed> {
        let (raw, _) = self.read::<wire::CreateContext>()?;
        let length = raw.name_length.get();
        // The name lies behind the two numbers; `raw` is a copy that ends here.
        let name = usize::try_from(length)
            .ok()
            .filter(|length| *length <= raw.name.len())
            .and_then(|length| self.bytes.get(8..8 + length))
            .ok_or(Malformed::ContextName { length })?;
        Ok(Command::CreateContext {
            init: raw.init.get(),
            name,
        })
    }

    fn texture(self) -> Result<Command<'a>, Malformed> {
        let (raw, _) = self.read::<wire::Create3d>()?;
        Ok(Command::CreateResource3d {
            resource: raw.resource.get(),
            shape: Shape3d {
                target: raw.target.get(),
                format: raw.format.get(),
                bind: raw.bind.get(),
                width: raw.width.get(),
                height: raw.height.get(),
                depth: raw.depth.get(),
                array_size: raw.array_size.get(),
                last_level: raw.last_level.get(),
                samples: raw.samples.get(),
                flags: raw.flags.get(),
            },
        })
    }

    fn transfer(self) -> Result<Transfer3d, Malformed> {
        let (raw, _) = self.read::<wire::RawTransfer3d>()?;
        Ok(Transfer3d {
            resource: raw.resource.get(),
            area: raw.area,
            backing: Backing3d {
                offset: raw.offset.get(),
                level: raw.level.get(),
                stride: raw.stride.get(),
                layer_stride: raw.layer_stride.get(),
            },
        })
    }

    fn short(self, needed: u64) -> Malformed {
        Malformed::Short {
            kind: self.kind,
            needed,
            present: self.bytes.len(),
        }
    }
}

fn slice<T: FromBytes + Immutable + KnownLayout + zerocopy::Unaligned>(
    bytes: &[u8],
) -> Option<&[T]> {
    <[T]>::ref_from_bytes(bytes).ok()
}

/// Why bytes are no command.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The specification has no such command.
    #[error("there is no virtio-gpu command {kind:#x}")]
    Unknown {
        /// Its number.
        kind: u32,
    },
    /// The buffer ends before the command does.
    #[error("virtio-gpu command {kind:#x} needs {needed} bytes more, of which {present} are there")]
    Short {
        /// Its number.
        kind: u32,
        /// Bytes that the next part takes.
        needed: u64,
        /// Bytes that are left.
        present: usize,
    },
    /// There is no such kind of memory for blobs.
    #[error("a blob in memory of the kind {memory}, which is not 1, 2 or 3")]
    BlobMemory {
        /// The number of the kind.
        memory: u32,
    },
    /// The name of a context is longer than its field.
    #[error("a context's name of {length} bytes in a field of 64")]
    ContextName {
        /// Bytes.
        length: u32,
    },
}
