//! Making a vCPU's thread return from KVM_RUN.
//!
//! Used by `MicroVm::stop` and `MicroVm::pause`. KVM_RUN returns at once when `immediate_exit` in the vCPU's shared
//! page is set, and when a signal arrives. The kicker sets the first and sends the second: a
//! thread that is just about to enter the guest sees the byte, one that is inside gets the signal.

use std::ffi::c_void;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;
use std::os::unix::thread::JoinHandleExt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use kvm_bindings::kvm_run;
use rustix::mm::{MapFlags, ProtFlags};

use super::thread;

/// A view of its own on a vCPU's `kvm_run`, so that its lifetime is independent of the vCPU's.
#[derive(Debug)]
pub(super) struct RunPage(NonNull<kvm_run>);

// SAFETY: the page is shared with the kernel and other threads anyway; it is read and written
// only through atomic or volatile accesses to plain integers.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    pub(super) fn map(vcpu: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let page = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                size_of::<kvm_run>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                vcpu,
                0,
            )
        }?;
        NonNull::new(page.cast())
            .map(Self)
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn set_immediate_exit(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
    }

    pub(super) fn clear_immediate_exit(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the byte lies inside the mapping, which lives as long as `self`; every access
        // to it in this process is atomic.
        unsafe {
            AtomicU8::from_ptr(
                self.0
                    .as_ptr()
                    .cast::<u8>()
                    .add(offset_of!(kvm_run, immediate_exit)),
            )
        }
    }

    /// `suberror` of the last KVM_EXIT_INTERNAL_ERROR.
    pub(super) fn internal_suberror(&self) -> u32 {
        // SAFETY: the field lies inside the mapping; any bytes are a valid u32.
        unsafe {
            ptr::addr_of!((*self.0.as_ptr()).__bindgen_anon_1.internal.suberror).read_volatile()
        }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`; nothing else knows its address.
        let _ =
            unsafe { rustix::mm::munmap(self.0.as_ptr().cast::<c_void>(), size_of::<kvm_run>()) };
    }
}

/// Makes one vCPU's run return, now and until [`super::Vcpu::resume`].
#[derive(Clone, Debug)]
pub(crate) struct Kicker(Arc<RunPage>);

impl Kicker {
    pub(super) fn new(page: Arc<RunPage>) -> Self {
        Self(page)
    }

    /// To be called in the vCPU's thread before its first run, so that the signal gets through.
    pub(crate) fn prepare_thread() -> io::Result<()> {
        vmm_sys_util::signal::register_signal_handler(signal(), ignore).map_err(io::Error::from)?;
        thread::unblock(signal())
    }

    /// Makes the vCPU return [`super::Exit::Kicked`] from its run in `thread`, or from its next.
    pub(crate) fn kick<T>(&self, thread: &JoinHandle<T>) {
        self.0.set_immediate_exit();
        // SAFETY: a thread that was not joined has a valid pthread_t, also when it has ended;
        // the signal's handler does nothing. ESRCH for an ended thread is what we want.
        let _ = unsafe { libc::pthread_kill(thread.as_pthread_t(), signal()) };
    }
}

fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// The signal's only work is to interrupt KVM_RUN.
extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}
