//! What virglrenderer calls: signalled fences, the render server's socket, its log.
//!
//! Fences come from threads of the library's, one for each context; they go into a channel and
//! the GPU's thread is woken.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
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

/// Fences of no context are OpenGL's; none is ever made.
extern "C" fn write_fence(_cookie: *mut c_void, _fence: u32) {}

extern "C" fn write_context_fence(cookie: *mut c_void, context: u32, ring: u32, id: u64) {
    // SAFETY: the renderer was started with a pointer to a `Cookie` that outlives it.
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
