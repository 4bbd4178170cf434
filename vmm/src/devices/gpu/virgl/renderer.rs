//! The renderer, by way of the library.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Library;
use super::callbacks::{self, Cookie, SignalSink};
use super::ffi::{self, Area, BlobArguments, CreateArguments};
use crate::devices::gpu::OpenGl;
use crate::devices::gpu::backing::Backing;
use crate::devices::gpu::protocol::{
    Backing3d, BlobMemory, Box3d, CreateBlob, Shape3d, Transfer3d,
};
use crate::devices::gpu::renderer::{BlobHandle, Capset, Fence, Renderer};

const FLAGS: c_int = ffi::VENUS | ffi::THREAD_SYNC | ffi::ASYNC_FENCE_CALLBACK | ffi::RENDER_SERVER;
/// With OpenGL, and without.
const OPENGL: c_int = ffi::EGL | ffi::SURFACELESS | ffi::EXTERNAL_BLOB;
const NO_OPENGL: c_int = ffi::NO_VIRGL;

/// Where `struct virgl_caps_v2` has the host's GL_RENDERER.
const DRIVER_NAME: Range<usize> = 696..760;

/// What drivers that draw on the processors call themselves.
const RASTERISERS: [&str; 4] = ["llvmpipe", "softpipe", "swrast", "swiftshader"];

/// The library's state is one set of global variables.
static STARTED: AtomicBool = AtomicBool::new(false);

/// The renderer. It stays in the thread that started it.
pub(in crate::devices::gpu) struct Virgl {
    library: Library,
    cookie: *mut Cookie,
    capsets: Vec<Capset>,
    /// Memory that the library has addresses of, by resource.
    backings: HashMap<u32, Backing>,
    _in_this_thread: PhantomData<*mut ()>,
}

impl Virgl {
    /// Starts the renderer on the render server at the other end of `server`, and if `opengl`
    /// wants it on the OpenGL driver that this thread finds. `signal` gets the fences.
    pub(in crate::devices::gpu) fn start(
        library: Library,
        server: OwnedFd,
        opengl: OpenGl,
        signal: SignalSink,
    ) -> Result<Self, VirglError> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(VirglError::Twice);
        }
        let cookie = Box::into_raw(Box::new(Cookie {
            signal,
            server: Mutex::new(Some(server)),
            last_fence: AtomicU64::new(0),
        }));
        // From here on, dropping it cleans up.
        let mut virgl = Self {
            library,
            cookie,
            capsets: Vec::new(),
            backings: HashMap::new(),
            _in_this_thread: PhantomData,
        };
        let functions = *virgl.library.functions();
        let callbacks = (&raw const callbacks::CALLBACKS).cast_mut();
        let draws = opengl != OpenGl::No;
        let flags = FLAGS | if draws { OPENGL } else { NO_OPENGL };
        // SAFETY: the callbacks, which the library reads, and the cookie outlive the renderer;
        // nothing else in this process calls the library.
        let result = unsafe {
            (functions.set_log_callback)(callbacks::log, ptr::null_mut(), ptr::null());
            (functions.init)(cookie.cast(), flags, callbacks)
        };
        if result != 0 {
            return Err(match draws {
                true => VirglError::InitOpenGl { result },
                false => VirglError::Init { result },
            });
        }
        let found = |id| capset(&functions, id);
        virgl
            .capsets
            .push(found(Capset::VENUS).ok_or(VirglError::NoVenus)?);
        if draws {
            for id in [Capset::VIRGL, Capset::VIRGL2] {
                virgl
                    .capsets
                    .push(found(id).ok_or(VirglError::NoOpenGl { id })?);
            }
            check_driver(&virgl.capsets, opengl)?;
        }
        Ok(virgl)
    }
}

/// Who draws is said in `struct virgl_caps_v2`.
fn check_driver(capsets: &[Capset], opengl: OpenGl) -> Result<(), VirglError> {
    let mut capsets = capsets.iter();
    let name = capsets
        .find(|capset| capset.id == Capset::VIRGL2)
        .and_then(|capset| capset.contents.get(DRIVER_NAME))
        .and_then(|name| name.split(|byte| *byte == 0).next())
        .unwrap_or_default();
    let driver = String::from_utf8_lossy(name).into_owned();
    tracing::info!("OpenGL: {driver} draws");
    let lower = driver.to_lowercase();
    let is_rasteriser = RASTERISERS.iter().any(|name| lower.contains(name));
    match is_rasteriser && opengl == OpenGl::Gpu {
        true => Err(VirglError::Rasteriser { driver }),
        false => Ok(()),
    }
}

/// A capability set. Nothing, or all zeros, means that what it tells of does not work; for Venus
/// that the render server found no Vulkan to serve.
fn capset(functions: &ffi::Functions, id: u32) -> Option<Capset> {
    let (mut version, mut size) = (0, 0);
    // SAFETY: both point to numbers.
    unsafe { (functions.get_cap_set)(id, &raw mut version, &raw mut size) };
    let size = usize::try_from(size).unwrap_or(0);
    let mut contents = vec![0u8; size];
    if size > 0 {
        // SAFETY: there is room for as many bytes as the set has.
        unsafe { (functions.fill_caps)(id, version, contents.as_mut_ptr().cast()) };
    }
    let works = contents.iter().any(|byte| *byte != 0);
    works.then_some(Capset {
        id,
        version,
        contents,
    })
}

/// Zero, or an errno, which some functions return as it is and some negated.
fn status(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno.saturating_abs())),
    }
}

/// A number that the library takes as signed.
fn signed(number: u32) -> c_int {
    number.cast_signed()
}

impl Renderer for Virgl {
    fn capsets(&self) -> &[Capset] {
        &self.capsets
    }

    fn create_context(&mut self, context: u32, capset: u32, name: &[u8]) -> io::Result<()> {
        let length = u32::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the name has `length` bytes.
        status(unsafe {
            (self.library.functions().context_create)(
                context,
                capset,
                length,
                name.as_ptr().cast::<c_char>(),
            )
        })
    }

    fn destroy_context(&mut self, context: u32) {
        // SAFETY: the library ignores contexts that it does not know.
        unsafe { (self.library.functions().context_destroy)(context) };
    }

    fn create_resource(&mut self, resource: u32, shape: &Shape3d) -> io::Result<()> {
        let mut arguments = CreateArguments {
            handle: resource,
            target: shape.target,
            format: shape.format,
            bind: shape.bind,
            width: shape.width,
            height: shape.height,
            depth: shape.depth,
            array_size: shape.array_size,
            last_level: shape.last_level,
            samples: shape.samples,
            flags: shape.flags,
        };
        // SAFETY: the arguments live during the call; there is no backing yet.
        status(unsafe {
            (self.library.functions().resource_create)(&raw mut arguments, ptr::null_mut(), 0)
        })
    }

    fn create_blob(
        &mut self,
        context: u32,
        blob: &CreateBlob<'_>,
        backing: Option<Backing>,
    ) -> io::Result<()> {
        let pieces = backing.as_ref().map_or(&[][..], Backing::pieces);
        let arguments = BlobArguments {
            resource: blob.resource,
            context,
            memory: match blob.memory {
                BlobMemory::Guest => 1,
                BlobMemory::Host3d => 2,
                BlobMemory::Host3dGuest => 3,
            },
            flags: blob.flags,
            blob: blob.blob,
            size: blob.size,
            pieces: pieces.as_ptr(),
            pieces_count: u32::try_from(pieces.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        };
        // SAFETY: the pieces are guest memory; they are kept until the resource is gone.
        status(unsafe { (self.library.functions().create_blob)(&raw const arguments) })?;
        if let Some(backing) = backing {
            self.backings.insert(blob.resource, backing);
        }
        Ok(())
    }

    fn unref(&mut self, resource: u32) {
        // SAFETY: the library ignores resources that it does not know.
        unsafe { (self.library.functions().unref)(resource) };
        self.backings.remove(&resource);
    }

    fn attach_backing(&mut self, resource: u32, backing: Backing) -> io::Result<()> {
        let pieces = backing.pieces();
        let count = c_int::try_from(pieces.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the pieces are guest memory; they are kept until they are detached. The
        // library does not change the array.
        status(unsafe {
            (self.library.functions().attach_pieces)(
                signed(resource),
                pieces.as_ptr().cast_mut(),
                count,
            )
        })?;
        self.backings.insert(resource, backing);
        Ok(())
    }

    fn detach_backing(&mut self, resource: u32) {
        let (mut pieces, mut count) = (ptr::null_mut(), 0);
        // SAFETY: both point to what the library fills; the array is ours.
        unsafe {
            (self.library.functions().detach_pieces)(
                signed(resource),
                &raw mut pieces,
                &raw mut count,
            );
        }
        self.backings.remove(&resource);
    }

    fn attach(&mut self, context: u32, resource: u32) {
        // SAFETY: the library ignores numbers that it does not know.
        unsafe { (self.library.functions().attach)(signed(context), signed(resource)) };
    }

    fn detach(&mut self, context: u32, resource: u32) {
        // SAFETY: the library ignores numbers that it does not know.
        unsafe { (self.library.functions().detach)(signed(context), signed(resource)) };
    }

    fn submit(&mut self, context: u32, commands: &[u8]) -> io::Result<()> {
        let words = c_int::try_from(commands.len() / 4).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The library refuses what is not aligned, and copies what is aligned to 4 only.
        let aligned = commands.as_ptr().addr().is_multiple_of(8);
        let mut copy = Vec::new();
        let start = if aligned {
            commands.as_ptr()
        } else {
            copy.resize(commands.len().div_ceil(8), 0u64);
            let bytes = zerocopy::IntoBytes::as_mut_bytes(copy.as_mut_slice());
            for (to, from) in bytes.iter_mut().zip(commands) {
                *to = *from;
            }
            copy.as_ptr().cast()
        };
        // SAFETY: there are `words` words, which only this thread has; the library reads them.
        status(unsafe {
            (self.library.functions().submit)(
                start.cast_mut().cast::<c_void>(),
                signed(context),
                words,
            )
        })
    }

    fn transfer_to_host(&mut self, context: u32, transfer: &Transfer3d) -> io::Result<()> {
        let (mut area, place) = (area(&transfer.area), &transfer.backing);
        // SAFETY: the area lives during the call; without pieces the library uses the backing.
        status(unsafe {
            (self.library.functions().transfer_write)(
                transfer.resource,
                context,
                level(place)?,
                place.stride,
                place.layer_stride,
                &raw mut area,
                place.offset,
                ptr::null_mut(),
                0,
            )
        })
    }

    fn transfer_from_host(&mut self, context: u32, transfer: &Transfer3d) -> io::Result<()> {
        let (mut area, place) = (area(&transfer.area), &transfer.backing);
        // SAFETY: as above.
        status(unsafe {
            (self.library.functions().transfer_read)(
                transfer.resource,
                context,
                place.level,
                place.stride,
                place.layer_stride,
                &raw mut area,
                place.offset,
                ptr::null_mut(),
                0,
            )
        })
    }

    fn create_fence(&mut self, fence: Fence) -> io::Result<()> {
        if fence.context == 0 {
            // SAFETY: the cookie lives as long as this; other threads have it shared as well.
            let cookie = unsafe { &*self.cookie };
            cookie.last_fence.store(fence.id, Ordering::Release);
            let half = u32::try_from(fence.id & u64::from(u32::MAX)).map_err(io::Error::other)?;
            // SAFETY: plain numbers.
            return status(unsafe { (self.library.functions().create_fence)(signed(half), 0) });
        }
        // SAFETY: plain numbers.
        status(unsafe {
            (self.library.functions().context_create_fence)(
                fence.context,
                0,
                fence.ring.into(),
                fence.id,
            )
        })
    }

    fn map_info(&mut self, resource: u32) -> io::Result<u32> {
        let mut info = 0;
        // SAFETY: it points to a number.
        status(unsafe { (self.library.functions().map_info)(resource, &raw mut info) })?;
        Ok(info)
    }

    fn export(&mut self, resource: u32) -> io::Result<BlobHandle> {
        let (mut kind, mut descriptor) = (0, -1);
        // SAFETY: both point to numbers.
        status(unsafe {
            (self.library.functions().export_blob)(resource, &raw mut kind, &raw mut descriptor)
        })?;
        if descriptor < 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        // SAFETY: the library gives a descriptor away.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        match kind {
            ffi::FD_DMABUF | ffi::FD_SHM => Ok(BlobHandle::Mappable(descriptor)),
            ffi::FD_OPAQUE => Ok(BlobHandle::Opaque),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn map(&mut self, resource: u32) -> io::Result<(*mut c_void, u64)> {
        let (mut host, mut size) = (ptr::null_mut(), 0);
        // SAFETY: both point to what the library fills.
        status(unsafe { (self.library.functions().map)(resource, &raw mut host, &raw mut size) })?;
        match host.is_null() {
            false => Ok((host, size)),
            true => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn unmap(&mut self, resource: u32) {
        // SAFETY: nothing of this process uses the mapping; the window has one of its own.
        let result = status(unsafe { (self.library.functions().unmap)(resource) });
        if let Err(error) = result {
            tracing::debug!(%error, resource, "unmap a blob in virglrenderer");
        }
    }
}

fn area(area: &Box3d) -> Area {
    Area {
        x: area.x.get(),
        y: area.y.get(),
        z: area.z.get(),
        width: area.width.get(),
        height: area.height.get(),
        depth: area.depth.get(),
    }
}

fn level(backing: &Backing3d) -> io::Result<c_int> {
    c_int::try_from(backing.level).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

impl Drop for Virgl {
    fn drop(&mut self) {
        // SAFETY: this is the thread that started the renderer; its own threads end here, so
        // nothing uses the cookie afterwards.
        unsafe {
            (self.library.functions().cleanup)(self.cookie.cast());
            drop(Box::from_raw(self.cookie));
        }
        STARTED.store(false, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Virgl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Virgl")
            .field("capsets", &self.capsets)
            .finish_non_exhaustive()
    }
}

/// Why the renderer could not be started.
#[derive(Debug, thiserror::Error)]
pub enum VirglError {
    /// There can be one in a process.
    #[error("virglrenderer was started in this process already")]
    Twice,
    /// The library refused, for a reason that it logged: most often there is no render server at
    /// the other end of the socket.
    #[error(
        "virglrenderer does not start on its render server, which has ended or speaks another \
         version (virgl_renderer_init returned {result})"
    )]
    Init {
        /// What it returned.
        result: i32,
    },
    /// It does not start with OpenGL: as above, or EGL finds no driver.
    #[error(
        "virglrenderer does not start with OpenGL (virgl_renderer_init returned {result}): install \
         EGL and an OpenGL driver for the host's GPU (Debian and Ubuntu: libegl1, \
         libopengl0 and libgl1-mesa-dri), or leave out io.krun-gpu.virgl"
    )]
    InitOpenGl {
        /// What it returned.
        result: i32,
    },
    /// It serves no Venus.
    #[error(
        "virglrenderer serves no Vulkan (Venus): its capability set is empty. Install a Vulkan \
         driver for the host's GPU (Debian and Ubuntu: mesa-vulkan-drivers), and a virglrenderer \
         that was built with Venus"
    )]
    NoVenus,
    /// The host has a GPU, and OpenGL would not be drawn by it.
    #[error(
        "OpenGL (virgl) would be drawn by {driver}, on the processors, although the host has a GPU: \
         install its OpenGL driver with EGL's surfaceless platform (Debian and Ubuntu: \
         libgl1-mesa-dri), or leave out io.krun-gpu.virgl"
    )]
    Rasteriser {
        /// Its name.
        driver: String,
    },
    /// It serves no OpenGL.
    #[error(
        "virglrenderer serves no OpenGL (virgl): its capability set {id} is empty; leave out \
         io.krun-gpu.virgl"
    )]
    NoOpenGl {
        /// Its number.
        id: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rasteriser_draws_only_where_it_may() {
        let capsets = |name: &str| {
            let set = |id, contents| Capset {
                id,
                version: id,
                contents,
            };
            let contents = [&[7; DRIVER_NAME.start], name.as_bytes(), &[0; 100]].concat();
            [
                set(Capset::VIRGL, vec![1; 308]),
                set(Capset::VIRGL2, contents),
            ]
        };
        let software = capsets("LLVMPIPE (LLVM 19.1.7, 256 bits)");
        assert!(check_driver(&software, OpenGl::Any).is_ok());
        let error = check_driver(&software, OpenGl::Gpu).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("by LLVMPIPE (LLVM 19.1.7, 256 bits), on"),
            "{error}"
        );
        let nvidia = capsets("NVIDIA H100 80GB HBM3/PCIe/SSE2");
        assert!(check_driver(&nvidia, OpenGl::Gpu).is_ok());
        assert!(check_driver(&[], OpenGl::Gpu).is_ok());
    }
}
