//! Reading an ELF kernel image: its loadable segments and its entries.
//!
//! ELF-64 Object File Format; the PVH entry is an ELF note of Xen's, `XEN_ELFNOTE_PHYS32_ENTRY`
//! (xen/include/public/elfnote.h). The file is not trusted to be what it claims.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_NOTE: u32 = 4;
const NOTE_XEN_PHYS32_ENTRY: u32 = 18;
/// A vmlinux has about five program headers.
const MOST_SEGMENTS: u16 = 64;
/// The notes of a vmlinux are some hundred bytes.
const MOST_NOTES: u64 = 64 << 10;
/// Where a bzImage says that it is one.
const BZIMAGE_MAGIC: (u64, [u8; 4]) = (0x202, *b"HdrS");

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct FileHeader {
    magic: [u8; 4],
    class: u8,
    data: u8,
    identification: [u8; 10],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U64,
    program_headers: U64,
    section_headers: U64,
    flags: U32,
    header_size: U16,
    program_header_size: U16,
    program_header_count: U16,
    section_header_size: U16,
    section_header_count: U16,
    section_names: U16,
}

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct ProgramHeader {
    kind: U32,
    flags: U32,
    offset: U64,
    virtual_address: U64,
    physical_address: U64,
    file_size: U64,
    memory_size: U64,
    alignment: U64,
}

/// A piece of the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    /// Where it is in the file.
    pub(super) offset: u64,
    /// Guest-physical address.
    pub(super) address: u64,
    /// Bytes in the file.
    pub(super) file_size: u64,
    /// Bytes in memory; what the file does not have is zero.
    pub(super) memory_size: u64,
}

/// What an image says of itself.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Image {
    pub(super) segments: Vec<Segment>,
    /// The ELF header's entry, physical in a vmlinux for x86-64.
    pub(super) entry: u64,
    /// The entry for PVH.
    pub(super) pvh_entry: Option<u64>,
}

/// Reads the headers of `file`.
pub(super) fn read(file: &File) -> Result<Image, KernelImageError> {
    let file_length = file.metadata().map_err(KernelImageError::Read)?.len();
    let header: FileHeader = read_struct(file, 0)?;
    if header.magic != MAGIC {
        let mut magic = [0; 4];
        let bzimage =
            file.read_exact_at(&mut magic, BZIMAGE_MAGIC.0).is_ok() && magic == BZIMAGE_MAGIC.1;
        return Err(if bzimage {
            KernelImageError::Compressed
        } else {
            KernelImageError::NotElf
        });
    }
    if header.class != CLASS_64
        || header.data != LITTLE_ENDIAN
        || header.machine.get() != MACHINE_X86_64
    {
        return Err(KernelImageError::OtherMachine(header.machine.get()));
    }
    let count = header.program_header_count.get();
    if usize::from(header.program_header_size.get()) != size_of::<ProgramHeader>()
        || count > MOST_SEGMENTS
    {
        return Err(KernelImageError::ProgramHeaders { count });
    }
    let mut image = Image {
        segments: Vec::new(),
        entry: header.entry.get(),
        pvh_entry: None,
    };
    for index in 0..u64::from(count) {
        let offset = header
            .program_headers
            .get()
            .checked_add(index * size_of::<ProgramHeader>() as u64)
            .ok_or(KernelImageError::ProgramHeaders { count })?;
        let program: ProgramHeader = read_struct(file, offset)?;
        let segment = Segment {
            offset: program.offset.get(),
            address: program.physical_address.get(),
            file_size: program.file_size.get(),
            memory_size: program.memory_size.get(),
        };
        // A mapping beyond the file's end would kill this process when the guest touches it.
        let end = segment.offset.checked_add(segment.file_size);
        if end.is_none_or(|end| end > file_length) {
            return Err(KernelImageError::Truncated {
                offset: segment.offset,
                file_length,
            });
        }
        match program.kind.get() {
            SEGMENT_LOAD if segment.memory_size > 0 => {
                if segment.file_size > segment.memory_size {
                    return Err(KernelImageError::Segment {
                        address: segment.address,
                    });
                }
                image.segments.push(segment);
            }
            SEGMENT_NOTE if image.pvh_entry.is_none() => {
                let length = usize::try_from(segment.file_size.min(MOST_NOTES)).unwrap_or(0);
                let mut notes = vec![0; length];
                file.read_exact_at(&mut notes, segment.offset)
                    .map_err(KernelImageError::Read)?;
                image.pvh_entry = pvh_entry(&notes);
            }
            _ => {}
        }
    }
    Ok(image)
}

fn read_struct<T: FromZeros + IntoBytes + FromBytes>(
    file: &File,
    offset: u64,
) -> Result<T, KernelImageError> {
    let mut value = T::new_zeroed();
    match file.read_exact_at(value.as_mut_bytes(), offset) {
        Ok(()) => Ok(value),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let file_length = file.metadata().map_err(KernelImageError::Read)?.len();
            Err(KernelImageError::Truncated {
                offset,
                file_length,
            })
        }
        Err(error) => Err(KernelImageError::Read(error)),
    }
}

/// Finds the PVH entry in a note segment: notes are {name size, descriptor size, type, name,
/// descriptor}, the latter two padded to four bytes.
fn pvh_entry(mut notes: &[u8]) -> Option<u64> {
    loop {
        let (name_size, rest) = split_u32(notes)?;
        let (descriptor_size, rest) = split_u32(rest)?;
        let (kind, rest) = split_u32(rest)?;
        let padded = |size: u32| usize::try_from(size.checked_next_multiple_of(4)?).ok();
        let (name, rest) = rest.split_at_checked(padded(name_size)?)?;
        let (descriptor, rest) = rest.split_at_checked(padded(descriptor_size)?)?;
        if kind == NOTE_XEN_PHYS32_ENTRY && name == b"Xen\0" {
            // 4 or 8 bytes, and the entry is a 32-bit address in either.
            return split_u32(descriptor).map(|(entry, _)| u64::from(entry));
        }
        notes = rest;
    }
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

/// Why a file is no kernel image for this VMM.
#[derive(Debug, thiserror::Error)]
pub enum KernelImageError {
    /// It cannot be read.
    #[error("reading the kernel image")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("the kernel image is not an ELF file (an uncompressed vmlinux is needed)")]
    NotElf,
    /// It is the compressed form.
    #[error("the kernel image is a compressed bzImage; an uncompressed vmlinux is needed")]
    Compressed,
    /// It is for another machine, or not 64-bit.
    #[error("the kernel image is not for 64-bit x86 (ELF machine {0})")]
    OtherMachine(u16),
    /// Its table of contents makes no sense.
    #[error("the kernel image has {count} program headers of an unknown kind")]
    ProgramHeaders {
        /// How many it claims to have.
        count: u16,
    },
    /// It ends before its contents do.
    #[error(
        "the kernel image is truncated: it has nothing at offset {offset:#x}, being {file_length:#x} bytes long"
    )]
    Truncated {
        /// Where something should be.
        offset: u64,
        /// The file's length.
        file_length: u64,
    },
    /// A segment contradicts itself.
    #[error(
        "the kernel image's segment for address {address:#x} is larger in the file than in memory"
    )]
    Segment {
        /// Guest-physical address.
        address: u64,
    },
    /// Nothing to load.
    #[error("the kernel image has no loadable segment")]
    Empty,
    /// It does not fit.
    #[error(
        "the kernel image needs memory at {start:#x} to {end:#x}, and the guest has memory from {low:#x} to {high:#x}"
    )]
    Outside {
        /// First guest-physical address needed.
        start: u64,
        /// First one behind.
        end: u64,
        /// First one available.
        low: u64,
        /// First one behind those available.
        high: u64,
    },
    /// Its entry is nowhere.
    #[error("the kernel image's entry {0:#x} is in none of its segments")]
    Entry(u64),
    /// A segment could not be loaded.
    #[error("loading the kernel image")]
    Load(#[source] crate::memory::LoadError),
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn note(kind: u32, name: &[u8], descriptor: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [name.len(), descriptor.len()] {
            bytes.extend(u32::try_from(number).expect("small").to_le_bytes());
        }
        bytes.extend(kind.to_le_bytes());
        for part in [name, descriptor] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_pvh_note_is_found_among_others() {
        let mut notes = note(3, b"GNU\0", &[1; 20]);
        notes.extend(note(18, b"Xem\0", &[9; 4]));
        notes.extend(note(18, b"Xen\0", &0x100_0890_u64.to_le_bytes()));
        assert_eq!(pvh_entry(&notes), Some(0x100_0890));
    }

    #[test]
    fn broken_notes_are_no_note() {
        assert_eq!(pvh_entry(&[]), None);
        assert_eq!(pvh_entry(&[0xff; 64]), None);
        let good = note(18, b"Xen\0", &[1, 2, 3, 4]);
        for length in 0..good.len() {
            assert_eq!(pvh_entry(&good[..length]), None);
        }
    }

    fn image(bytes: &[u8]) -> Result<Image, KernelImageError> {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(bytes).expect("write");
        read(&file)
    }

    fn header(segments: u16) -> FileHeader {
        FileHeader {
            magic: MAGIC,
            class: CLASS_64,
            data: LITTLE_ENDIAN,
            machine: MACHINE_X86_64.into(),
            program_headers: 64.into(),
            program_header_size: 56.into(),
            program_header_count: segments.into(),
            ..FileHeader::new_zeroed()
        }
    }

    fn segment(file_size: u64, memory_size: u64) -> ProgramHeader {
        ProgramHeader {
            kind: SEGMENT_LOAD.into(),
            file_size: file_size.into(),
            memory_size: memory_size.into(),
            ..ProgramHeader::new_zeroed()
        }
    }

    #[test]
    fn what_is_no_kernel_is_named() {
        assert!(matches!(
            image(b""),
            Err(KernelImageError::Truncated { .. })
        ));
        assert!(matches!(image(&[0; 4096]), Err(KernelImageError::NotElf)));
        let mut bzimage = vec![0; 4096];
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        assert!(matches!(image(&bzimage), Err(KernelImageError::Compressed)));
        let other = FileHeader {
            machine: 183.into(),
            ..header(1)
        };
        assert!(matches!(
            image(other.as_bytes()),
            Err(KernelImageError::OtherMachine(183))
        ));
        assert!(matches!(
            image(header(65).as_bytes()),
            Err(KernelImageError::ProgramHeaders { count: 65 })
        ));
        assert!(matches!(
            image(header(1).as_bytes()),
            Err(KernelImageError::Truncated { .. })
        ));
    }

    #[test]
    fn segments_must_be_in_the_file() {
        let with =
            |program: ProgramHeader| image(&[header(1).as_bytes(), program.as_bytes()].concat());
        assert_eq!(with(segment(120, 120)).expect("valid").segments.len(), 1);
        assert!(matches!(
            with(segment(121, 200)),
            Err(KernelImageError::Truncated { .. })
        ));
        assert!(matches!(
            with(segment(u64::MAX, u64::MAX)),
            Err(KernelImageError::Truncated { .. })
        ));
        assert!(matches!(
            with(segment(120, 119)),
            Err(KernelImageError::Segment { .. })
        ));
    }
}
