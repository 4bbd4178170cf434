//! The seam between the device and what renders: virglrenderer, or a test's renderer.
//!
//! The control queue calls it in the GPU's thread, with ids that exist and are not in use twice.
//! Whether an id is known, memory is the guest's and a number is in range has been checked; what
//! the numbers mean to a texture or a context is the renderer's to check.

use std::ffi::c_void;
use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;

use super::backing::Backing;
use super::protocol::{CreateBlob, Shape3d, Transfer3d};

/// A capability set: what the guest's driver needs to know of the renderer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Capset {
    /// `VIRTIO_GPU_CAPSET_*`.
    pub(crate) id: u32,
    /// Its newest version.
    pub(crate) version: u32,
    /// Its contents in that version.
    pub(crate) contents: Vec<u8>,
}

impl Capset {
    /// OpenGL, as drivers of old know it.
    pub(crate) const VIRGL: u32 = 1;
    /// OpenGL.
    pub(crate) const VIRGL2: u32 = 2;
    /// Vulkan.
    pub(crate) const VENUS: u32 = 4;
}

/// What a blob's host memory is.
#[derive(Debug)]
pub(crate) enum BlobHandle {
    /// A memfd or dma-buf, whose bytes are the blob's from offset 0.
    Mappable(OwnedFd),
    /// Something that only the renderer can map.
    Opaque,
}

/// A fence to be signalled. Context 0 and ring 0 are the device's own order, which OpenGL's contexts
/// share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fence {
    /// The context.
    pub context: u32,
    /// The ring of the context.
    pub ring: u8,
    /// The fence's number; a later fence of the ring has a larger one.
    pub id: u64,
}

/// What renders for the guest.
pub(crate) trait Renderer: Debug {
    /// The capability sets that are served.
    fn capsets(&self) -> &[Capset];

    /// Makes a context of one of the capability sets.
    fn create_context(&mut self, context: u32, capset: u32, name: &[u8]) -> io::Result<()>;

    /// Destroys it. Fences of the context that are not signalled when this returns never are.
    fn destroy_context(&mut self, context: u32);

    /// Makes a texture or buffer.
    fn create_resource(&mut self, resource: u32, shape: &Shape3d) -> io::Result<()>;

    /// Makes a blob, in `context` unless that is 0. A backing is the renderer's until the
    /// resource is gone.
    fn create_blob(
        &mut self,
        context: u32,
        blob: &CreateBlob<'_>,
        backing: Option<Backing>,
    ) -> io::Result<()>;

    /// Forgets a resource and drops its backing.
    fn unref(&mut self, resource: u32);

    /// Gives a resource guest memory, which is the renderer's until it is detached.
    fn attach_backing(&mut self, resource: u32, backing: Backing) -> io::Result<()>;

    /// Drops a resource's backing.
    fn detach_backing(&mut self, resource: u32);

    /// Lets a context use a resource.
    fn attach(&mut self, context: u32, resource: u32);

    /// Undoes that.
    fn detach(&mut self, context: u32, resource: u32);

    /// Runs commands, a multiple of 4 bytes.
    fn submit(&mut self, context: u32, commands: &[u8]) -> io::Result<()>;

    /// Copies from a resource's backing to the resource.
    fn transfer_to_host(&mut self, context: u32, transfer: &Transfer3d) -> io::Result<()>;

    /// Copies from a resource to its backing.
    fn transfer_from_host(&mut self, context: u32, transfer: &Transfer3d) -> io::Result<()>;

    /// Has a fence signalled when everything submitted to its ring so far is done.
    fn create_fence(&mut self, fence: Fence) -> io::Result<()>;

    /// How the guest is to map a blob (`VIRTIO_GPU_MAP_CACHE_*`).
    fn map_info(&mut self, resource: u32) -> io::Result<u32>;

    /// A blob's host memory.
    fn export(&mut self, resource: u32) -> io::Result<BlobHandle>;

    /// Maps an opaque blob: where it is, and its size in bytes. It stays there until
    /// [`Renderer::unmap`].
    fn map(&mut self, resource: u32) -> io::Result<(*mut c_void, u64)>;

    /// Undoes [`Renderer::map`].
    fn unmap(&mut self, resource: u32);
}
