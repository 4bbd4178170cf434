//! User namespaces that `create` makes itself: for id-mapped mounts, which want one for its mappings
//! alone, and for sandboxes with several mappings.
//!
//! libcontainer leaves the latter to newuidmap(1), also for root. It knows only what /etc/subuid
//! gives to host users: in the user namespace of an ordinary user's engine (`--userns=keep-id`)
//! it refuses, and libcontainer does not ask whether it did.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, geteuid, pause};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::split::id_map_lines;

/// Makes the new user namespace that `host` asks for, if libcontainer should not, and has it joined.
/// The descriptor is to be kept until it is.
pub(super) fn provide(host: &mut Spec) -> io::Result<Option<OwnedFd>> {
    let Some(linux) = host.linux_mut() else {
        return Ok(None);
    };
    let uids = id_map_lines(linux.uid_mappings().as_deref().unwrap_or_default());
    let gids = id_map_lines(linux.gid_mappings().as_deref().unwrap_or_default());
    if (uids.len() <= 1 && gids.len() <= 1) || !geteuid().is_root() {
        return Ok(None);
    }
    let wanted = linux
        .namespaces_mut()
        .iter_mut()
        .flatten()
        .find(|namespace| {
            namespace.typ() == LinuxNamespaceType::User && namespace.path().is_none()
        });
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let namespace = make(&uids, &gids)?;
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    wanted.set_path(Some(PathBuf::from(path)));
    Ok(Some(namespace))
}

/// Makes a user namespace with these mappings, as lines of uid_map and gid_map. This process must be
/// root where it is.
pub(super) fn make(uids: &[[u32; 3]], gids: &[[u32; 3]]) -> io::Result<OwnedFd> {
    let (ready, told) = nix::unistd::pipe()?;
    // SAFETY: `create` has one thread; the child makes system calls alone.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ready);
            let unshared = unshare(CloneFlags::CLONE_NEWUSER);
            let code = unshared.map_or_else(|error| error as i32, |()| 0);
            let answer = [u8::try_from(code).unwrap_or(u8::MAX)];
            // Nobody listens: then nobody waits for an answer.
            let _ = nix::unistd::write(&told, &answer);
            drop(told);
            loop {
                pause();
            }
        }
        ForkResult::Parent { child } => {
            drop(told);
            let made = fill(child, &ready, uids, gids);
            // A child that is gone already is what we want.
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
            made
        }
    }
}

fn fill(child: Pid, ready: &OwnedFd, uids: &[[u32; 3]], gids: &[[u32; 3]]) -> io::Result<OwnedFd> {
    let mut answer = [0];
    if nix::unistd::read(ready, &mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if answer != [0] {
        return Err(io::Error::from_raw_os_error(answer[0].into()));
    }
    for (name, lines) in [("uid_map", uids), ("gid_map", gids)] {
        let text: String = lines
            .iter()
            .map(|[inside, outside, count]| format!("{inside} {outside} {count}\n"))
            .collect();
        fs::write(format!("/proc/{child}/{name}"), text)?;
    }
    Ok(fs::File::open(format!("/proc/{child}/ns/user"))?.into())
}
