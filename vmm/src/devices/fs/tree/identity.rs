//! Who a worker thread is while it serves one request.
//!
//! The guest's kernel decides what its processes may do; the host's identity only says who owns
//! what they make. So a worker keeps its capabilities when it takes the user and group of a
//! request: a file can be made in a directory that the user may write to through a supplementary
//! group, which the request does not carry.
//!
//! Everything here is about the calling thread. Ids and capabilities are a thread's own on Linux
//! when they are set by system call, and [`enter`] makes its umask and working directory so.

use std::os::fd::AsFd;

use fuse_backend_rs::api::filesystem::Context;
use rustix::fs::Mode;
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid, fchdir, getegid, geteuid, umask};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, UnshareFlags, capabilities, capabilities_secure_bits,
    set_capabilities, set_capabilities_secure_bits, set_thread_res_gid, set_thread_res_uid,
};

/// What lets a process open files against their mode.
pub(super) const FILE_ACCESS: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FSETID);

/// Prepares the calling thread to serve requests: a umask and a working directory of its own,
/// the latter at `descriptors` (this process's `/proc/self/fd`), and capabilities that stay when
/// the user changes.
pub(super) fn enter(descriptors: impl AsFd) -> Result<()> {
    // SAFETY: the umask and the working directory are only unshared, so what other threads rely
    // on does not change; no descriptor table is involved.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    fchdir(descriptors)?;
    umask(Mode::empty());
    if capabilities(None)?
        .effective
        .contains(CapabilitySet::SETUID)
    {
        let bits = capabilities_secure_bits()? | CapabilitiesSecureBits::NO_SETUID_FIXUP;
        set_capabilities_secure_bits(bits)?;
    }
    Ok(())
}

/// Runs `make` with the user, group and umask of a request, so that what it makes is theirs.
///
/// An id that this process's user namespace has no mapping for gives `EOVERFLOW`.
pub(super) fn making<T>(
    context: &Context,
    mask: u32,
    make: impl FnOnce() -> Result<T>,
) -> Result<T> {
    umask(Mode::from_raw_mode(mask & 0o777));
    let _group = ThreadGroup::set(context.gid)?;
    let _user = ThreadUser::set(context.uid)?;
    make()
}

/// Runs `act` without some capabilities, as far as the thread has them.
pub(super) fn without<T>(dropped: CapabilitySet, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let sets = capabilities(None)?;
    if !sets.effective.intersects(dropped) {
        return act();
    }
    let mut reduced = sets;
    reduced.effective.remove(dropped);
    set_capabilities(None, reduced)?;
    let result = act();
    restored(set_capabilities(None, sets));
    result
}

struct ThreadUser(Uid);

impl ThreadUser {
    fn set(user: u32) -> Result<Option<Self>> {
        let own = geteuid();
        if own.as_raw() == user {
            return Ok(None);
        }
        set_thread_res_uid(None, Some(uid(user)?), None).map_err(unmapped)?;
        Ok(Some(Self(own)))
    }
}

impl Drop for ThreadUser {
    fn drop(&mut self) {
        restored(set_thread_res_uid(None, Some(self.0), None));
    }
}

struct ThreadGroup(Gid);

impl ThreadGroup {
    fn set(group: u32) -> Result<Option<Self>> {
        let own = getegid();
        if own.as_raw() == group {
            return Ok(None);
        }
        set_thread_res_gid(None, Some(gid(group)?), None).map_err(unmapped)?;
        Ok(Some(Self(own)))
    }
}

impl Drop for ThreadGroup {
    fn drop(&mut self) {
        restored(set_thread_res_gid(None, Some(self.0), None));
    }
}

/// A user from the guest. All ones means "leave it" to system calls and is nobody's id.
pub(super) fn uid(raw: u32) -> Result<Uid> {
    if raw == u32::MAX {
        Err(Errno::INVAL)
    } else {
        Ok(Uid::from_raw(raw))
    }
}

/// A group from the guest, like [`uid`].
pub(super) fn gid(raw: u32) -> Result<Gid> {
    if raw == u32::MAX {
        Err(Errno::INVAL)
    } else {
        Ok(Gid::from_raw(raw))
    }
}

fn unmapped(error: Errno) -> Errno {
    if error == Errno::INVAL {
        Errno::OVERFLOW
    } else {
        error
    }
}

/// A thread that cannot become itself again would serve the next request as somebody else.
fn restored(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "virtio-fs: a worker could not take its own identity back");
        std::process::abort();
    }
}
