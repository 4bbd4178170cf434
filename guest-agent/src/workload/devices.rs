//! Nodes and links of /dev: the standard ones of config-linux.md, and those that the
//! specification lists.
//!
//! Called by `workload::build` after the mounts.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use krun_gpu_protocol::{Device, DeviceKind, Mount, MountFlags, MountSource};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, symlinkat,
};
use rustix::io::Errno;

use super::path;

/// What can go wrong with a device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// A node cannot be made.
    #[error("create device `{path}` ({kind:?} {major}:{minor})")]
    Node {
        /// Where it should be.
        path: String,
        /// Its kind.
        kind: DeviceKind,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// A link cannot be made.
    #[error("create link `{path}` to `{target}`")]
    Link {
        /// Where it should be.
        path: &'static str,
        /// Where it should point.
        target: &'static str,
        /// Why it failed.
        #[source]
        source: Errno,
    },
}

/// Name and number of the standard character devices.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The standard links.
const LINKS: [(&str, &str); 6] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// The /dev that a container gets when its specification mounts none: nodes are never made in
/// the exported tree.
pub(super) fn default_mount(mounts: &[Mount]) -> Option<Mount> {
    mounts.iter().all(|mount| !is_dev(mount)).then(|| Mount {
        destination: "/dev".into(),
        source: MountSource::Guest {
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            data: "mode=755,size=65536k".into(),
            copy_up: false,
        },
        flags: MountFlags::NO_SUID | MountFlags::STRICT_ATIME,
        propagation: None,
    })
}

/// Makes the standard nodes (unless the host's own /dev is there) and those of `devices`.
pub(super) fn create(
    root: &impl AsFd,
    mounts: &[Mount],
    devices: &[Device],
) -> Result<(), DeviceError> {
    let root = root.as_fd();
    let host_dev = mounts
        .iter()
        .rev()
        .find(|mount| is_dev(mount))
        .is_some_and(|mount| matches!(mount.source, MountSource::Host { .. }));
    if !host_dev {
        for (path, major, minor) in NODES {
            // What is mounted there is not ours to change.
            if mounts.iter().any(|mount| mount.destination == path) {
                continue;
            }
            node(
                root,
                &Device {
                    path: path.into(),
                    kind: DeviceKind::Character,
                    major,
                    minor,
                    mode: 0o666,
                    uid: 0,
                    gid: 0,
                },
            )?;
        }
        for (path, target) in LINKS {
            link(root, path, target).map_err(|source| DeviceError::Link {
                path,
                target,
                source,
            })?;
        }
    }
    create_listed(&root, devices)
}

/// Makes the nodes of `devices`.
pub(super) fn create_listed(root: &impl AsFd, devices: &[Device]) -> Result<(), DeviceError> {
    let root = root.as_fd();
    devices.iter().try_for_each(|device| node(root, device))
}

/// A device's numbers as sysfs writes them: `226:128` and a line feed.
pub(super) fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim_end().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn is_dev(mount: &Mount) -> bool {
    mount.destination.trim_end_matches('/') == "/dev"
}

fn link(root: BorrowedFd<'_>, path: &str, target: &str) -> Result<(), Errno> {
    let (parent, name) = path::split(Path::new(path)).ok_or(Errno::INVAL)?;
    match symlinkat(target, path::directories(root, &parent)?, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn node(root: BorrowedFd<'_>, device: &Device) -> Result<(), DeviceError> {
    let make = || {
        let (parent, name) = path::split(Path::new(&device.path)).ok_or(Errno::INVAL)?;
        let parent = path::directories(root, &parent)?;
        let kind = match device.kind {
            DeviceKind::Character => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
            DeviceKind::Fifo => FileType::Fifo,
        };
        let mode = Mode::from_raw_mode(device.mode & 0o7777);
        match mknodat(
            &parent,
            name,
            kind,
            mode,
            makedev(device.major, device.minor),
        ) {
            // A standard node that the specification lists again only changes its owner and mode.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(
            &parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        chmodat(&parent, name, mode, AtFlags::empty())
    };
    make().map_err(|source| DeviceError::Node {
        path: device.path.clone(),
        kind: device.kind,
        major: device.major,
        minor: device.minor,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_sysfs_writes_them() {
        assert_eq!(numbers("226:128\n"), Some((226, 128)));
        for text in ["", "226", "226:", ":0", "-1:0", "226:128:1"] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }
}
