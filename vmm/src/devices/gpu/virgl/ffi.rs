//! What `virgl/virglrenderer.h` of version 1.1 declares, as far as it is used here.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Draw OpenGL with EGL,
pub(super) const EGL: c_int = 1 << 0;
/// and without a display.
pub(super) const SURFACELESS: c_int = 1 << 3;
/// OpenGL's blobs have descriptors, and no memory of the driver's heap.
pub(super) const EXTERNAL_BLOB: c_int = 1 << 5;
/// Wait for fences in threads of the library's.
pub(super) const THREAD_SYNC: c_int = 1 << 1;
/// Serve Venus.
pub(super) const VENUS: c_int = 1 << 6;
/// Do not serve OpenGL.
pub(super) const NO_VIRGL: c_int = 1 << 7;
/// Signal fences from those threads.
pub(super) const ASYNC_FENCE_CALLBACK: c_int = 1 << 8;
/// Render in the render server. Without it Venus's capability set is zeros.
pub(super) const RENDER_SERVER: c_int = 1 << 9;

/// The newest version of [`Callbacks`] that this header knows is 4; `get_server_fd` came in 3.
pub(super) const CALLBACKS_VERSION: c_int = 3;

/// `VIRGL_RENDERER_BLOB_FD_TYPE_*`.
pub(super) const FD_DMABUF: u32 = 1;
pub(super) const FD_OPAQUE: u32 = 2;
pub(super) const FD_SHM: u32 = 3;

/// `struct virgl_renderer_callbacks`. What is `None` serves an OpenGL of the caller's.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Callbacks {
    pub(super) version: c_int,
    pub(super) write_fence: Option<extern "C" fn(*mut c_void, u32)>,
    pub(super) create_gl_context: Option<extern "C" fn()>,
    pub(super) destroy_gl_context: Option<extern "C" fn()>,
    pub(super) make_current: Option<extern "C" fn()>,
    pub(super) get_drm_fd: Option<extern "C" fn()>,
    pub(super) write_context_fence: Option<extern "C" fn(*mut c_void, u32, u32, u64)>,
    pub(super) get_server_fd: Option<extern "C" fn(*mut c_void, u32) -> c_int>,
    pub(super) get_egl_display: Option<extern "C" fn()>,
}

/// `struct virgl_renderer_resource_create_args`.
#[repr(C)]
pub(super) struct CreateArguments {
    pub(super) handle: u32,
    pub(super) target: u32,
    pub(super) format: u32,
    pub(super) bind: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) depth: u32,
    pub(super) array_size: u32,
    pub(super) last_level: u32,
    pub(super) samples: u32,
    pub(super) flags: u32,
}

/// `struct virgl_renderer_resource_create_blob_args`.
#[repr(C)]
pub(super) struct BlobArguments {
    pub(super) resource: u32,
    pub(super) context: u32,
    pub(super) memory: u32,
    pub(super) flags: u32,
    pub(super) blob: u64,
    pub(super) size: u64,
    pub(super) pieces: *const libc::iovec,
    pub(super) pieces_count: u32,
}

/// `struct virgl_box`.
#[repr(C)]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) z: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) depth: u32,
}

/// A log callback: level, message, and the pointer that was given with it.
pub(super) type LogCallback = extern "C" fn(c_uint, *const c_char, *mut c_void);

/// Declares [`Functions`] and how it is filled.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?, $symbol:literal, $since:literal;)*) => {
        /// The library's functions. They are code of the library's, so this must not outlive it.
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// Finds every function; the error is a symbol's name and the version that has it.
            pub(super) fn find(
                library: &libloading::Library,
            ) -> Result<Self, (&'static str, &'static str)> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the library's header declares this symbol with this type.
                        let found = unsafe { library.get(concat!($symbol, "\0").as_bytes()) };
                        *found.map_err(|_| ($symbol, $since))?
                    },)*
                })
            }
        }
    };
}

functions! {
    init: fn(*mut c_void, c_int, *mut Callbacks) -> c_int, "virgl_renderer_init", "0.1";
    cleanup: fn(*mut c_void), "virgl_renderer_cleanup", "0.1";
    set_log_callback: fn(LogCallback, *mut c_void, *const c_void), "virgl_set_log_callback", "1.1";
    get_cap_set: fn(u32, *mut u32, *mut u32), "virgl_renderer_get_cap_set", "0.1";
    fill_caps: fn(u32, u32, *mut c_void), "virgl_renderer_fill_caps", "0.1";
    context_create: fn(u32, u32, u32, *const c_char) -> c_int,
        "virgl_renderer_context_create_with_flags", "0.9";
    context_destroy: fn(u32), "virgl_renderer_context_destroy", "0.1";
    create_fence: fn(c_int, u32) -> c_int, "virgl_renderer_create_fence", "0.1";
    context_create_fence: fn(u32, u32, u32, u64) -> c_int,
        "virgl_renderer_context_create_fence", "1.0";
    submit: fn(*mut c_void, c_int, c_int) -> c_int, "virgl_renderer_submit_cmd", "0.1";
    resource_create: fn(*mut CreateArguments, *mut libc::iovec, u32) -> c_int,
        "virgl_renderer_resource_create", "0.1";
    create_blob: fn(*const BlobArguments) -> c_int, "virgl_renderer_resource_create_blob", "1.0";
    unref: fn(u32), "virgl_renderer_resource_unref", "0.1";
    attach_pieces: fn(c_int, *mut libc::iovec, c_int) -> c_int,
        "virgl_renderer_resource_attach_iov", "0.1";
    detach_pieces: fn(c_int, *mut *mut libc::iovec, *mut c_int),
        "virgl_renderer_resource_detach_iov", "0.1";
    attach: fn(c_int, c_int), "virgl_renderer_ctx_attach_resource", "0.1";
    detach: fn(c_int, c_int), "virgl_renderer_ctx_detach_resource", "0.1";
    transfer_read: fn(u32, u32, u32, u32, u32, *mut Area, u64, *mut libc::iovec, c_int) -> c_int,
        "virgl_renderer_transfer_read_iov", "0.1";
    transfer_write: fn(u32, u32, c_int, u32, u32, *mut Area, u64, *mut libc::iovec, c_uint) -> c_int,
        "virgl_renderer_transfer_write_iov", "0.1";
    map: fn(u32, *mut *mut c_void, *mut u64) -> c_int, "virgl_renderer_resource_map", "1.0";
    unmap: fn(u32) -> c_int, "virgl_renderer_resource_unmap", "1.0";
    map_info: fn(u32, *mut u32) -> c_int, "virgl_renderer_resource_get_map_info", "1.0";
    export_blob: fn(u32, *mut u32, *mut c_int) -> c_int,
        "virgl_renderer_resource_export_blob", "1.0";
}
