//! What the VMM gives up and blocks before the first thread of the VM exists.

use std::io;

use caps::{CapSet, Capability};

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegesError {
    /// A capability that does not go.
    #[error("give up {capability}: {reason}")]
    Capability {
        /// The capability.
        capability: Capability,
        /// The reason: the library's errors hold theirs in their text.
        reason: String,
    },
    /// The signal mask.
    #[error("block signals")]
    Signals(#[source] io::Error),
}

/// Gives up CAP_SYS_ADMIN, which was for mounts. Threads have the capabilities of the thread that
/// starts them, so this comes before all others.
pub(super) fn drop_mount_rights() -> Result<(), PrivilegesError> {
    drop_right(Capability::CAP_SYS_ADMIN)
}

/// Gives up CAP_SYS_CHROOT, which was for the GPU's thread.
pub(super) fn drop_root_rights() -> Result<(), PrivilegesError> {
    drop_right(Capability::CAP_SYS_CHROOT)
}

fn drop_right(capability: Capability) -> Result<(), PrivilegesError> {
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Bounding] {
        caps::drop(None, set, capability).map_err(|error| PrivilegesError::Capability {
            capability,
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

/// Blocks every signal: the monitor reads them from a descriptor and passes them on. As the first
/// process of its pid namespace a VMM would otherwise not even notice a SIGTERM.
pub(super) fn block_signals() -> Result<(), PrivilegesError> {
    nix::sys::signal::SigSet::all()
        .thread_block()
        .map_err(|error| PrivilegesError::Signals(error.into()))
}

/// Gives the process its name: libcontainer left another one.
pub(super) fn take_name() {
    // SAFETY: the name is a C string of less than 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"krun-gpu".as_ptr()) };
}

/// Makes the kernel kill this process when the thread that is its parent ends, or no longer.
/// A VMM whose `create` was killed is one that nobody knows of.
pub(super) fn die_with_parent(yes: bool) {
    let signal = if yes { libc::SIGKILL } else { 0 };
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

/// Keeps the VMM's memory small: what `create` needed is given back, and its few threads share
/// the allocator's arenas.
pub(super) fn shrink() {
    // SAFETY: no other thread exists yet; both calls only tune the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::malloc_trim(0);
    }
}
