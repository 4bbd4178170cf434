//! The container's root: a copy of the exported tree's mount becomes `/`.
//!
//! Called by `workload::build`. The initramfs can be neither unmounted nor given to
//! pivot_root(2), so the new root is mounted over `/` and chroot'ed into, as every initramfs
//! does; `..` at its top stays there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use krun_gpu_protocol::Propagation;
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir};

use super::Surroundings;
use crate::sys::attributes::Attributes;

/// What can go wrong with the root.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// A step of entering the root.
    #[error("{doing}")]
    Enter {
        /// What the agent was doing.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// One of the agent's mounts would stay in the workload's namespace.
    #[error("detach the agent's mount `{}` from the workload's namespace", path.display())]
    Detach {
        /// Where it is.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Errno,
    },
}

/// What lies below the container's root.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The exported tree, with nothing of the guest's mounted in it.
    pub(crate) view: OwnedFd,
    root: OwnedFd,
}

/// Makes a second mount of the exported tree this process' root.
pub(crate) fn enter(surroundings: &Surroundings) -> Result<Outside, RootError> {
    let doing = |doing| move |source| RootError::Enter { doing, source };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(doing("make the workload's mounts private"))?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open("/", directory, Mode::empty()).map_err(doing("open the guest's root"))?;
    let view = open(&surroundings.view, directory, Mode::empty())
        .map_err(doing("open the exported tree"))?;
    let tree = open_tree(
        CWD,
        &surroundings.view,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(doing("copy the exported tree's mount"))?;
    move_mount(&tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(doing("mount the container's root"))?;
    fchdir(&tree).map_err(doing("enter the container's root"))?;
    chroot(".").map_err(doing("chroot to the container's root"))?;
    Ok(Outside { view, root })
}

impl Outside {
    /// Takes the agent's mounts out of this namespace and forgets the way to them.
    pub(crate) fn detach(self, surroundings: &Surroundings) -> Result<(), RootError> {
        let doing = |doing| move |source| RootError::Enter { doing, source };
        fchdir(&self.root).map_err(doing("return to the guest's root"))?;
        for path in &surroundings.own_mounts {
            let relative = path.strip_prefix("/").unwrap_or(path);
            unmount(relative, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(|source| {
                RootError::Detach {
                    path: path.clone(),
                    source,
                }
            })?;
        }
        chdir("/").map_err(doing("enter the container's root"))
    }
}

/// Gives the root mount its last flags.
pub(crate) fn seal(
    root: &impl AsFd,
    read_only: bool,
    propagation: Option<Propagation>,
) -> Result<(), RootError> {
    let mut attributes = if read_only {
        Attributes::read_only()
    } else {
        Attributes::default()
    };
    if let Some(propagation) = propagation {
        attributes = attributes.with_propagation(propagation);
    }
    attributes
        .apply(root.as_fd(), false)
        .map_err(|source| RootError::Enter {
            doing: "set the root mount's flags and propagation",
            source,
        })
}
