//! virglrenderer, loaded when a GPU is asked for.
//!
//! The owner of the VM calls [`Library::load`] where the host's libraries are; the GPU's thread
//! starts the renderer with it. There is one renderer in a process at a time, and it belongs to
//! the thread that started it. It decodes nothing of Vulkan itself: contexts live in the render
//! server's processes, to which it passes commands and from which it gets the blobs' memory.
//! OpenGL, where it is asked for, it decodes and draws here, with the EGL and the driver that it
//! loads itself; the library has no other way. It draws without a display, on the GPU that Mesa's
//! surfaceless platform (or the vendor's) takes first.

mod callbacks;
mod ffi;
mod library;
mod renderer;

pub(super) use callbacks::SignalSink;
pub use library::{Library, LoadError, find_opengl};
pub(super) use renderer::Virgl;
pub use renderer::VirglError;
