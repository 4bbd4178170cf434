//! What virglrenderer calls: signalled fences, the render server's socket, its log.
//!
//! Fences come from threads of the library's, one for each context; they go into a channel and
//! the GPU's thread is woken.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ffi::{CALLBACKS_VERSION, Callbacks};
use crate::devices::gpu::renderer::Fence;

/// Takes signalled fences, in any thread.
pub(in crate::devices::gpu) type SignalSink = Arc<dyn Fn(Fence) + Send + Sync>;

/// Warnings and errors of the library's that go to the log at their own level. A guest can cause
/// as many as it likes.
const LOUD_MESSAGES: u32 = 100;

/// What the callbacks get as their first argument. It must stay where it is while the renderer
/// runs.
pub(super) struct Cookie {
    pub(super) signal: SignalSink,
    /// The render server's socket, until the library takes it.
    pub(super) server: Mutex<Option<OwnedFd>>,
    /// The number of the last fence of no context. The library knows its low half.
    pub(super) last_fence: AtomicU64,
}

/// The library keeps a pointer to this.
pub(super) static CALLBACKS: Callbacks = Callbacks {
    version: CALLBACKS_VERSION,
    write_fence: Some(write_fence),
    create_gl_context: None,
    destroy_gl_context: None,
    make_current: None,
    get_drm_fd: None,
    write_context_fence: Some(write_context_fence),
    get_server_fd: Some(get_server_fd),
    get_egl_display: None,
};

/// Fences of no context are OpenGL's.
extern "C" fn write_fence(cookie: *mut c_void, fence: u32) {
    // SAFETY: the renderer was started with a pointer to a `Cookie` that outlives it.
    let Some(cookie) = (unsafe { cookie.cast::<Cookie>().as_ref() }) else {
        return;
    };
    let id = whole(fence, cookie.last_fence.load(Ordering::Acquire));
    let (context, ring) = (0, 0);
    (cookie.signal)(Fence { context, ring, id });
}

/// The newest number up to `last` that ends in `half`.
fn whole(half: u32, last: u64) -> u64 {
    const UNIT: u64 = 1 << 32;
    let number = last - last % UNIT + u64::from(half);
    match number <= last {
        true => number,
        false => number.saturating_sub(UNIT),
    }
}

extern "C" fn write_context_fence(cookie: *mut c_void, context: u32, ring: u32, id: u64) {
    // SAFETY: as above.
    let Some(cookie) = (unsafe { cookie.cast::<Cookie>().as_ref() }) else {
        return;
    };
    if let Ok(ring) = u8::try_from(ring) {
        (cookie.signal)(Fence { context, ring, id });
    }
}

/// Gives the library the socket, which it closes; -1 the second time.
extern "C" fn get_server_fd(cookie: *mut c_void, _version: u32) -> c_int {
    // SAFETY: as above.
    let Some(cookie) = (unsafe { cookie.cast::<Cookie>().as_ref() }) else {
        return -1;
    };
    let mut server = cookie.server.lock().unwrap_or_else(PoisonError::into_inner);
    server.take().map_or(-1, IntoRawFd::into_raw_fd)
}

/// Passes the library's messages on.
pub(super) extern "C" fn log(level: c_uint, message: *const c_char, _user: *mut c_void) {
    static LOUD: AtomicU32 = AtomicU32::new(0);
    if message.is_null() {
        return;
    }
    // SAFETY: the library gives a string that ends with NUL and lives while this runs.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let message = message.trim_end();
    let loud = level >= 2 && LOUD.fetch_add(1, Ordering::Relaxed) < LOUD_MESSAGES;
    match level {
        2 if loud => tracing::warn!("virglrenderer: {message}"),
        3 if loud => tracing::error!("virglrenderer: {message}"),
        _ => tracing::debug!("virglrenderer: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn halves_of_numbers_are_made_whole() {
        for (half, last, number) in [
            (7, 7, 7),
            (5, 7, 5),
            (1, 0x1_0000_0003, 0x1_0000_0001),
            (0xffff_fffe, 0x1_0000_0003, 0xffff_fffe),
            (0xffff_ffff, 0x5_0000_0000, 0x4_ffff_ffff),
        ] {
            assert_eq!(whole(half, last), number, "{half:#x} {last:#x}");
        }
    }
}
