//! Threads of the VMM.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr;
use std::thread::{Builder, JoinHandle};

use rustix::process::{chroot, fchdir};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, unshare_unsafe,
};

/// Enough for any thread here: their buffers are on the heap, and they do not recurse.
const STACK: usize = 256 << 10;

/// Starts a named thread with a small stack that no signal is delivered to: signals are for the
/// caller's own threads (a vCPU's thread lets the kick's signal through, see [`super::Kicker`]).
/// Threads that it starts inherit this.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_with_stack(name, STACK, body)
}

/// The same with a stack of this size, for code that is not ours.
pub(crate) fn spawn_with_stack<T: Send + 'static>(
    name: &str,
    stack: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    quietly(|| {
        Builder::new()
            .name(name.to_owned())
            .stack_size(stack)
            .spawn(body)
    })?
}

/// Gives this thread, and none of the others, another root directory, in whatever mount namespace
/// that is, and takes its capabilities away. It needs CAP_SYS_CHROOT.
pub(crate) fn enter_root(root: &OwnedFd) -> io::Result<()> {
    // SAFETY: the thread gets a root and working directory of its own; descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    fchdir(root)?;
    chroot(".")?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}

/// Does something with every signal blocked, so that threads that it starts have them blocked.
pub(crate) fn quietly<T>(body: impl FnOnce() -> T) -> io::Result<T> {
    let before = block_all()?;
    let result = body();
    set_mask(&before)?;
    Ok(result)
}

/// Blocks every signal in this thread and returns the mask from before.
fn block_all() -> io::Result<libc::sigset_t> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both point to storage for a signal set; sigfillset fills the first and
    // pthread_sigmask the second.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn set_mask(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `mask` is a filled signal set; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Lets one signal through to this thread.
pub(super) fn unblock(signal: libc::c_int) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is storage for a signal set, which sigemptyset fills.
    let errno = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut())
    };
    if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawned_threads_have_every_signal_blocked_and_the_spawner_none() {
        let blocked = || {
            std::fs::read_to_string("/proc/thread-self/status")
                .expect("procfs")
                .lines()
                .find_map(|line| {
                    let mask = line.strip_prefix("SigBlk:")?;
                    u64::from_str_radix(mask.trim(), 16).ok()
                })
        };
        let before = blocked().expect("SigBlk line");
        let inside = spawn("test", blocked)
            .expect("spawn")
            .join()
            .expect("join")
            .expect("SigBlk");
        assert_eq!(blocked(), Some(before));
        // SIGTERM is 15, the first real-time signals are libc's own and cannot be blocked.
        assert_ne!(inside & (1 << 14), 0);
        assert_ne!(inside & (1 << (libc::SIGRTMIN() - 1)), 0);
    }

    #[test]
    fn a_thread_enters_another_root_alone_and_without_rights() {
        let root = std::fs::File::open("/proc").unwrap().into();
        let before = std::env::current_dir().unwrap();
        let entered = spawn("test", move || {
            enter_root(&root)?;
            let status = std::fs::read_to_string("/thread-self/status")?;
            Ok(status.contains("CapEff:\t0000000000000000\n"))
        });
        match entered.unwrap().join().unwrap() {
            Ok(rightless) => assert!(rightless),
            // Without the right to, nothing has changed either.
            Err(error) => {
                let error: io::Error = error;
                assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            }
        }
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}
