//! Id-mapped mounts, which libcontainer does not make, and those whose source only `create` reaches.
//!
//! [`open`] makes the mount in the host's view, where `create` still has its caller's rights; the
//! VMM's process puts it over the placeholder that libcontainer has mounted.
//! mount_setattr(2), "ID-mapped mounts".

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::MountFlags;

use super::{detached, user_namespace};
use crate::split::IdMapped;

/// A mount that could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("mount {}: {action}", destination.display())]
pub(crate) struct IdMapError {
    destination: PathBuf,
    action: &'static str,
    #[source]
    source: io::Error,
}

/// A mount that waits for its place.
#[derive(Debug)]
pub(super) struct Waiting {
    destination: PathBuf,
    is_directory: bool,
    tree: OwnedFd,
}

/// Makes every one of `mounts`.
pub(super) fn open(mounts: &[IdMapped]) -> Result<Vec<Waiting>, IdMapError> {
    mounts.iter().map(one).collect()
}

fn one(mount: &IdMapped) -> Result<Waiting, IdMapError> {
    let failed = |action| {
        let destination = mount.destination.clone();
        move |source| IdMapError {
            destination,
            action,
            source,
        }
    };
    let tree = c_path(&mount.source)
        .and_then(|source| detached::copy(&source, mount.recursive))
        .map_err(failed("copy its source"))?;
    let basic =
        MountFlags::READ_ONLY | MountFlags::NO_SUID | MountFlags::NO_DEV | MountFlags::NO_EXEC;
    // The first four flags have the same numbers in both calls.
    let flags = (mount.flags & basic).bits();
    let is_recursive = mount.flags.contains(MountFlags::RECURSIVE);
    set_attributes(&tree, flags, is_recursive, None).map_err(failed("set its flags"))?;
    if !mount.uids.is_empty() {
        let namespace = user_namespace::make(&mount.uids, &mount.gids)
            .map_err(failed("make a user namespace with its mappings"))?;
        set_attributes(
            &tree,
            libc::MOUNT_ATTR_IDMAP,
            mount.map_all,
            Some(&namespace),
        )
        .map_err(failed("map its ids"))?;
    }
    Ok(Waiting {
        destination: mount.destination.clone(),
        is_directory: mount.is_directory,
        tree,
    })
}

/// Puts them in their places, in a root directory that libcontainer has filled.
pub(super) fn place(waiting: &[Waiting]) -> Result<(), IdMapError> {
    for mount in waiting {
        let Waiting {
            destination, tree, ..
        } = mount;
        let failed = |source| IdMapError {
            destination: destination.clone(),
            action: "put it in its place",
            source,
        };
        // Below another of these mounts nobody else has made it.
        if !destination.exists() {
            make_point(destination, mount.is_directory).map_err(failed)?;
        }
        let path = c_path(destination).map_err(failed)?;
        detached::attach(tree, &path, libc::MOVE_MOUNT_T_SYMLINKS).map_err(failed)?;
    }
    Ok(())
}

fn make_point(path: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create(path).map(drop)
}

fn set_attributes(
    tree: &OwnedFd,
    set: u64,
    recursive: bool,
    namespace: Option<&OwnedFd>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace
            .and_then(|namespace| u64::try_from(namespace.as_raw_fd()).ok())
            .unwrap_or_default(),
    };
    detached::change(tree, &attributes, recursive)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
