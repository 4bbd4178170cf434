//! READDIR and READDIRPLUS: what is in a directory.

use std::mem::{MaybeUninit, size_of};

use fuse_backend_rs::abi::fuse_abi::{Dirent, EntryOut};
use fuse_backend_rs::api::filesystem::{DirEntry, Entry};
use rustix::fs::{FileType, RawDir, RawDirEntry, SeekFrom, seek};

use std::io;

use super::Tree;
use super::handle::Handle;

/// How much is read from the host at once, in bytes: at least an entry with the longest name.
const BUFFER: std::ops::RangeInclusive<usize> = 1024..=32 * 1024;

/// One page of a listing: from `offset`, a value of the host's that an earlier page ended with,
/// as much as fits into `size` bytes.
pub(super) struct Page {
    pub(super) node: u64,
    pub(super) handle: u64,
    pub(super) offset: u64,
    pub(super) size: u32,
}

impl Tree {
    /// Gives each entry of a page to `add`, until it returns 0 for one that does not fit.
    pub(super) fn list(
        &self,
        page: &Page,
        add: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let handle = self.handles.get(page.handle, page.node)?;
        read(&handle, page, size_of::<Dirent>(), |entry| {
            add(entry_of(entry))
        })
    }

    /// Like [`Tree::list`], with attributes, and with one reference of the guest's for each entry
    /// that has any.
    pub(super) fn list_with_attributes(
        &self,
        page: &Page,
        add: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let handle = self.handles.get(page.handle, page.node)?;
        let parent = self.inodes.get(page.node)?;
        read(
            &handle,
            page,
            size_of::<EntryOut>() + size_of::<Dirent>(),
            |listed| {
                let mut entry = entry_of(listed);
                let name = listed.file_name();
                // An entry without attributes is one that the guest looks up when it needs it. Such
                // are `.` and `..`, and what was removed since it was listed.
                let attributes = match name.to_bytes() {
                    b"." | b".." => Entry::default(),
                    _ => self.look_up_in(&parent, name).unwrap_or_default(),
                };
                if attributes.inode != 0 {
                    entry.ino = attributes.attr.st_ino;
                }
                let added = add(entry, attributes);
                if !matches!(added, Ok(1..)) && attributes.inode != 0 {
                    self.inodes.forget([(attributes.inode, 1)]);
                }
                added
            },
        )
    }
}

/// Reads a page from the host. `overhead` is what an entry takes beside its name.
fn read(
    handle: &Handle,
    page: &Page,
    overhead: usize,
    mut add: impl FnMut(&RawDirEntry<'_>) -> io::Result<usize>,
) -> io::Result<()> {
    let mut left = usize::try_from(page.size).unwrap_or(usize::MAX);
    // The host needs 24 bytes and the name for an entry, so this reads about what will fit.
    let length = left.saturating_mul(size_of::<Dirent>()) / overhead;
    let mut buffer = vec![MaybeUninit::uninit(); length.clamp(*BUFFER.start(), *BUFFER.end())];
    let _position = handle.position();
    seek(&handle.file, SeekFrom::Start(page.offset))?;
    let mut entries = RawDir::new(&handle.file, &mut buffer);
    let mut first = true;
    while let Some(entry) = entries.next() {
        let added = entry.map_err(io::Error::from).and_then(|entry| {
            let needed = overhead + entry.file_name().count_bytes().next_multiple_of(8);
            if needed > left { Ok(0) } else { add(&entry) }
        });
        match added {
            Ok(0) => break,
            Ok(taken) => left = left.saturating_sub(taken),
            // An error can only be told in place of entries, and the guest holds references to
            // those that it was given; it gets the error with the next page.
            Err(error) if first => return Err(error),
            Err(_) => break,
        }
        first = false;
    }
    Ok(())
}

fn entry_of<'a>(entry: &'a RawDirEntry<'_>) -> DirEntry<'a> {
    let type_ = match entry.file_type() {
        FileType::Unknown => u32::from(libc::DT_UNKNOWN),
        // DT_* are the file types of a mode, shifted.
        known => known.as_raw_mode() >> 12,
    };
    let name = entry.file_name().to_bytes();
    DirEntry {
        ino: entry.ino(),
        offset: entry.next_entry_cookie(),
        type_,
        name,
    }
}
