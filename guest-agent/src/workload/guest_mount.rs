//! File systems of the guest's kernel: proc, sysfs, tmpfs, devpts, mqueue, cgroup2.
//!
//! Called by `mounts`. Each option is handed to the kernel by itself, so that a failure names it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use krun_gpu_protocol::{Mount, MountFlags, MountSource};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::mounts::MountError;
use super::path;

/// A detached mount of the file system that `mount` describes.
pub(crate) fn create(root: BorrowedFd<'_>, mount: &Mount) -> Result<OwnedFd, MountError> {
    let destination = &mount.destination;
    let MountSource::Guest {
        kind, source, data, ..
    } = &mount.source
    else {
        return Err(MountError::Type {
            destination: destination.clone(),
            kind: "none".into(),
            source: Errno::INVAL,
        });
    };
    // Podman still writes the old type's name; a guest has cgroup v2 alone.
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|source| MountError::Type {
        destination: destination.clone(),
        kind: kind.into(),
        source,
    })?;
    let set = |option: &str| {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, option),
        }
        .map_err(|source| MountError::Option {
            destination: destination.clone(),
            kind: kind.into(),
            option: option.into(),
            source,
        })
    };
    if !source.is_empty() {
        set(&format!("source={source}"))?;
    }
    for option in data.split(',').filter(|option| !option.is_empty()) {
        set(option)?;
    }
    for (flag, option) in [
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIR_SYNC, "dirsync"),
        (MountFlags::LAZYTIME, "lazytime"),
    ] {
        if mount.flags.contains(flag) {
            set(option)?;
        }
    }
    if kind == "tmpfs"
        && !data.split(',').any(|option| option.starts_with("mode="))
        && let Some(mode) = mode_below(root, destination)
    {
        set(&format!("mode={mode:o}"))?;
    }
    let failed = |source| MountError::Create {
        destination: destination.clone(),
        kind: kind.into(),
        source,
    };
    fsconfig_create(&context).map_err(failed)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .map_err(failed)
}

/// The mode of the directory that a tmpfs hides: the tmpfs takes it over, as under crun. Opened
/// without `O_DIRECTORY`, a mount of the host's there stays away.
fn mode_below(root: BorrowedFd<'_>, destination: &str) -> Option<u32> {
    let below = path::resolve(root, Path::new(destination), OFlags::PATH).ok()?;
    let mode = fstat(&below).ok()?.st_mode;
    (FileType::from_raw_mode(mode) == FileType::Directory).then_some(mode & 0o7777)
}
