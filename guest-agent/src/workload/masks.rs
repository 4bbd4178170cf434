//! `linux.maskedPaths` and `linux.readonlyPaths`.
//!
//! Called by `workload::build`. A path that the guest does not have is no error, as under crun.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use krun_gpu_protocol::MountFlags;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::path;
use crate::sys::attributes::Attributes;

/// A path that could not be covered.
#[derive(Debug, thiserror::Error)]
#[error("{field} `{path}`")]
pub(crate) struct MaskError {
    field: &'static str,
    path: String,
    #[source]
    source: Errno,
}

/// Makes each of `paths` read-only where it is.
pub(super) fn read_only(root: &impl AsFd, paths: &[String]) -> Result<(), MaskError> {
    each(root, "readonlyPaths", paths, |place| {
        let tree = copy(place, OpenTreeFlags::AT_RECURSIVE)?;
        attach_read_only(&tree, place)
    })
}

/// Hides each of `paths`: a directory behind an empty tmpfs, anything else behind `null`.
pub(super) fn hide(root: &impl AsFd, null: &OwnedFd, paths: &[String]) -> Result<(), MaskError> {
    let mut empty: Option<OwnedFd> = None;
    each(root, "maskedPaths", paths, |place| {
        if FileType::from_raw_mode(fstat(place)?.st_mode) != FileType::Directory {
            return attach_read_only(&copy(null, OpenTreeFlags::empty())?, place);
        }
        // One empty file system serves every directory. It is copied once it is attached.
        match &empty {
            Some(attached) => attach_read_only(&copy(attached, OpenTreeFlags::empty())?, place),
            None => {
                let tree = empty_directory()?;
                attach_read_only(&tree, place)?;
                empty = Some(tree);
                Ok(())
            }
        }
    })
}

fn each(
    root: &impl AsFd,
    field: &'static str,
    paths: &[String],
    mut cover: impl FnMut(&OwnedFd) -> Result<(), Errno>,
) -> Result<(), MaskError> {
    for path in paths {
        let covered = match path::resolve(root.as_fd(), Path::new(path), OFlags::PATH) {
            Ok(place) => cover(&place),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error),
        };
        covered.map_err(|source| MaskError {
            field,
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

fn copy(place: &OwnedFd, extra: OpenTreeFlags) -> Result<OwnedFd, Errno> {
    open_tree(
        place,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | extra,
    )
}

fn attach_read_only(tree: &OwnedFd, place: &OwnedFd) -> Result<(), Errno> {
    Attributes::from_flags(MountFlags::READ_ONLY).apply(tree.as_fd(), false)?;
    move_mount(
        tree,
        "",
        place,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "tmpfs")?;
    fsconfig_set_string(&context, "size", "0k")?;
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}
