//! Directories that the guest sees where the exported directory has none.
//!
//! `Tree::new` resolves them once; `lookup` asks for them when a name is not there. A graft gives
//! the guest no file that it could not reach anyway: what appears is another directory of the
//! same tree. It is found by its name and not listed, and it yields to whatever somebody makes
//! under that name.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

use super::inode::InodeId;
use super::names;
use super::status::Status;
use crate::devices::fs::Graft;

/// The name under which a directory appears, and where.
#[derive(Debug)]
struct Place {
    parent: InodeId,
    name: CString,
    directory: OwnedFd,
}

/// All grafts that have a place.
#[derive(Debug)]
pub(super) struct Grafts(Vec<Place>);

impl Grafts {
    /// Finds where each of `grafts` begins to differ from what is beneath `root`.
    pub(super) fn new(root: BorrowedFd<'_>, grafts: &[Graft]) -> Result<Self> {
        let places = grafts
            .iter()
            .filter_map(|graft| place(root, graft).transpose());
        places.collect::<Result<_>>().map(Self)
    }

    /// The directory that appears as `name` in `parent`.
    pub(super) fn find(&self, parent: &InodeId, name: &CStr) -> Option<BorrowedFd<'_>> {
        let mut places = self.0.iter();
        let place = places.find(|place| place.parent == *parent && *place.name == *name)?;
        Some(place.directory.as_fd())
    }
}

/// Follows the graft's path as far as it exists. A path that is all there needs no graft, and one
/// of which nothing is there gets none: it would put a new directory into the root.
fn place(root: BorrowedFd<'_>, graft: &Graft) -> Result<Option<Place>> {
    let mut known = PathBuf::new();
    let mut parent = open(root, Path::new("/"))?;
    for component in graft.path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::RootDir => continue,
            _ => return Err(Errno::INVAL),
        };
        let path = known.join(name);
        match open(root, &path) {
            Ok(directory) => parent = directory,
            Err(Errno::NOENT) if known.as_os_str().is_empty() => return Ok(None),
            Err(Errno::NOENT) => {
                let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
                names::component(&name)?;
                return Ok(Some(Place {
                    parent: Status::of(&parent)?.id(),
                    name,
                    directory: open(root, &graft.base.join(path))?,
                }));
            }
            // A file, a link to nowhere outside: what the image has there stays.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error),
        }
        known = path;
    }
    Ok(None)
}

/// Opens a directory with links resolved inside the tree.
fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    openat2(
        root,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}
