//! The mounts of the specification, in its order.
//!
//! Called by `workload::build` with `/` already the container's root. Each mount is made
//! detached, gets its flags, and is attached last, so the workload's namespace never shows a
//! mount without them. File systems of the guest turn read-only only at the end: mount points
//! and devices are still made in them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use krun_gpu_protocol::{Mount, MountFlags, MountSource};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};

use super::copy_up::{self, CopyError};
use super::devices;
use super::guest_mount;
use super::host_mount;
use super::path::{self, Kind};
use crate::process::terminal::Terminal;
use crate::sys::attributes::Attributes;

/// What can go wrong with a mount.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The mount point cannot be found or made.
    #[error("mount point `{destination}` in the container")]
    Destination {
        /// The mount's destination.
        destination: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The exported tree does not have what the host should have mounted.
    #[error("find the host's mount `{destination}` in the exported tree")]
    Export {
        /// The mount's destination.
        destination: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The guest's kernel has no such file system.
    #[error("mount `{destination}`: file system type `{kind}`")]
    Type {
        /// The mount's destination.
        destination: String,
        /// The type.
        kind: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The file system does not take an option.
    #[error("mount `{destination}`: {kind} option `{option}`")]
    Option {
        /// The mount's destination.
        destination: String,
        /// The type.
        kind: String,
        /// The option with its value.
        option: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The file system does not come to be.
    #[error("mount `{kind}` to `{destination}`")]
    Create {
        /// The mount's destination.
        destination: String,
        /// The type.
        kind: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The flags or the propagation.
    #[error("set flags of the mount `{destination}` ({flags:?})")]
    Flags {
        /// The mount's destination.
        destination: String,
        /// The flags.
        flags: MountFlags,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The mount cannot be put in its place.
    #[error("attach the mount `{destination}`")]
    Attach {
        /// The mount's destination.
        destination: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The image's content of a tmpfs.
    #[error("copy `{destination}` into its tmpfs")]
    CopyUp {
        /// The mount's destination.
        destination: String,
        /// Why it failed.
        #[source]
        source: CopyError,
    },
}

/// The mounts made so far.
#[derive(Debug)]
pub(crate) struct Mounted<'a> {
    root: BorrowedFd<'a>,
    view: BorrowedFd<'a>,
    read_only: Vec<(OwnedFd, String)>,
}

impl<'a> Mounted<'a> {
    /// Nothing yet.
    pub(crate) fn new(root: &'a impl AsFd, view: &'a impl AsFd) -> Self {
        Self {
            root: root.as_fd(),
            view: view.as_fd(),
            read_only: Vec::new(),
        }
    }

    /// Makes every mount of `mounts`.
    pub(crate) fn all(&mut self, mounts: &[Mount]) -> Result<(), MountError> {
        devices::default_mount(mounts)
            .iter()
            .chain(mounts)
            .try_for_each(|mount| self.one(mount))
    }

    fn one(&mut self, mount: &Mount) -> Result<(), MountError> {
        let destination = mount.destination.clone();
        let (tree, kind) = match &mount.source {
            MountSource::Host { exported_at } => host_mount::copy(
                self.view,
                exported_at,
                mount.flags.contains(MountFlags::RECURSIVE),
            )?,
            MountSource::Guest { .. } => (guest_mount::create(self.root, mount)?, Kind::Directory),
        };
        let place = self.place(&destination, kind)?;
        let guest = matches!(mount.source, MountSource::Guest { .. });
        let mut flags = mount.flags;
        if guest {
            flags.remove(MountFlags::READ_ONLY);
        }
        let failed = |source| MountError::Flags {
            destination: destination.clone(),
            flags: mount.flags,
            source,
        };
        let recursive = flags.contains(MountFlags::RECURSIVE);
        Attributes::from_flags(flags)
            .apply(tree.as_fd(), recursive)
            .map_err(failed)?;
        if let Some((propagation, recursive)) = mount.propagation {
            Attributes::default()
                .with_propagation(propagation)
                .apply(tree.as_fd(), recursive)
                .map_err(failed)?;
        }
        if matches!(&mount.source, MountSource::Guest { copy_up: true, .. }) {
            let from = path::resolve(
                self.root,
                Path::new(&destination),
                OFlags::RDONLY | OFlags::DIRECTORY,
            );
            from.map_err(CopyError::from)
                .and_then(|from| copy_up::copy(from.as_fd(), tree.as_fd()))
                .map_err(|source| MountError::CopyUp {
                    destination: destination.clone(),
                    source,
                })?;
        }
        attach(&tree, &place, &destination)?;
        if guest && mount.flags.contains(MountFlags::READ_ONLY) {
            self.read_only.push((tree, destination));
        }
        Ok(())
    }

    /// Shows the workload's terminal as /dev/console.
    pub(crate) fn console(&self, terminal: &Terminal) -> Result<(), MountError> {
        const DESTINATION: &str = "/dev/console";
        let tree = terminal.mount().map_err(|source| MountError::Create {
            destination: DESTINATION.into(),
            kind: "the terminal".into(),
            source,
        })?;
        attach(&tree, &self.place(DESTINATION, Kind::File)?, DESTINATION)
    }

    /// A new tmpfs of the guest's, to be put at `destination`.
    pub(super) fn memory(&self, destination: &str) -> Result<OwnedFd, MountError> {
        let mount = Mount {
            destination: destination.into(),
            source: MountSource::Guest {
                kind: "tmpfs".into(),
                source: "tmpfs".into(),
                data: "size=1m".into(),
                copy_up: false,
            },
            flags: MountFlags::empty(),
            propagation: None,
        };
        guest_mount::create(self.root, &mount)
    }

    /// Puts a directory tree of the guest's at `destination`.
    pub(super) fn put(
        &self,
        tree: OwnedFd,
        destination: &str,
        flags: MountFlags,
    ) -> Result<(), MountError> {
        Attributes::from_flags(flags)
            .apply(tree.as_fd(), false)
            .map_err(|source| MountError::Flags {
                destination: destination.into(),
                flags,
                source,
            })?;
        let place = self.place(destination, Kind::Directory)?;
        attach(&tree, &place, destination)
    }

    /// Turns the read-only file systems of the guest read-only.
    pub(crate) fn finish(self) -> Result<(), MountError> {
        for (tree, destination) in self.read_only {
            Attributes::read_only()
                .apply(tree.as_fd(), false)
                .map_err(|source| MountError::Flags {
                    destination,
                    flags: MountFlags::READ_ONLY,
                    source,
                })?;
        }
        Ok(())
    }

    fn place(&self, destination: &str, kind: Kind) -> Result<OwnedFd, MountError> {
        path::mount_point(self.root, Path::new(destination), kind).map_err(|source| {
            MountError::Destination {
                destination: destination.into(),
                source,
            }
        })
    }
}

fn attach(tree: &OwnedFd, place: &OwnedFd, destination: &str) -> Result<(), MountError> {
    move_mount(
        tree,
        "",
        place,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(|source| MountError::Attach {
        destination: destination.into(),
        source,
    })
}
