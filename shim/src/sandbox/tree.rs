//! The tree that the guest gets: what the VMM sees as `/` after pivot_root, less its `/proc`.
//!
//! The VMM keeps a procfs at `/proc`, for itself and for `podman top`. A guest that reached it
//! could write the VMM's memory through `/proc/self/mem`; so the exported tree is a copy of the
//! mounts, taken while procfs is not among them.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use krun_gpu_protocol::Propagation;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::detached;

/// Where the tree is when volumes follow the host's mounts.
const PLACE: &str = "/dev/.krun-gpu/tree";

/// What can go wrong with the tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// A mount's propagation.
    #[error("set the propagation of {}", path.display())]
    Propagation {
        /// The mount point.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A step of taking procfs out of the tree.
    #[error("{0} the exported tree")]
    Export(&'static str, #[source] io::Error),
}

/// Gives the mounts their propagation: libcontainer leaves them as the host has them.
pub(super) fn set_propagation(mounts: &[(PathBuf, Propagation, bool)]) -> Result<(), TreeError> {
    for (path, propagation, recursive) in mounts {
        let kind = match propagation {
            Propagation::Private => MsFlags::MS_PRIVATE,
            Propagation::Shared => MsFlags::MS_SHARED,
            Propagation::Slave => MsFlags::MS_SLAVE,
            // An unbindable mount could not be exported. What it means, the guest shows.
            Propagation::Unbindable => continue,
        };
        let flags = if *recursive {
            kind | MsFlags::MS_REC
        } else {
            kind
        };
        mount(None::<&str>, path, None::<&str>, flags, None::<&str>).map_err(|error| {
            TreeError::Propagation {
                path: path.clone(),
                source: error.into(),
            }
        })?;
    }
    Ok(())
}

/// Puts the exported tree into this namespace: a tree outside all namespaces would not take part
/// when the host mounts something in a volume that is to follow it. Its place is in the stand-in
/// of /dev, where neither the tree nor the guest shows it.
pub(super) fn attach(root: &OwnedFd) -> Result<(), TreeError> {
    let failed = |source| TreeError::Export("attach", source);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(PLACE)
        .map_err(failed)?;
    // A shared /dev would pass the tree on to the tree's own.
    mount(
        None::<&str>,
        "/dev",
        None::<&str>,
        MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|error| failed(error.into()))?;
    let place = CString::new(PLACE).map_err(|error| failed(error.into()))?;
    detached::attach(root, &place, 0).map_err(failed)
}

/// Copies the mounts below `/` without any procfs. Each of `proc_mounts` is the top mount there;
/// the one at `/proc` is put back.
pub(super) fn export(proc_mounts: &[PathBuf]) -> Result<OwnedFd, TreeError> {
    let failed = |action| move |source| TreeError::Export(action, source);
    let proc = detached::copy(c"/proc", true).map_err(failed("keep /proc apart from"))?;
    for path in proc_mounts {
        umount2(path, MntFlags::MNT_DETACH)
            .map_err(|error| failed("take /proc out of")(error.into()))?;
    }
    let root = detached::copy(c"/", true).map_err(failed("copy"))?;
    // A shared root would pass /proc on to its copy.
    make_private(&root).map_err(failed("part from its host"))?;
    detached::attach(&proc, c"/proc", 0).map_err(failed("put /proc back beside"))?;
    Ok(root)
}

/// Ends the propagation to and from the top mount of a detached tree.
fn make_private(tree: &OwnedFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    detached::change(tree, &attributes, false)
}
