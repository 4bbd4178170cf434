//! A renderer that renders nothing: it keeps count, and insists on what the device promises it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::devices::gpu::backing::Backing;
use crate::devices::gpu::protocol::{BlobMemory, CreateBlob, Shape3d, Transfer3d};
use crate::devices::gpu::renderer::{BlobHandle, Capset, Fence, Renderer};
use crate::layout::PAGE;
use crate::sys::window::Window;

/// Blobs with this number are opaque.
pub(super) const OPAQUE: u64 = 77;
/// Blobs with this number have a page less than they should.
pub(super) const SHORT: u64 = 78;

/// What the renderer holds; tests look at it from outside.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) contexts: BTreeSet<u32>,
    /// Bytes of those that have memory with a descriptor.
    pub(super) resources: BTreeMap<u32, Option<u64>>,
    /// Bytes of the backings.
    pub(super) backings: BTreeMap<u32, u64>,
    /// Opaque blobs that it has mapped.
    pub(super) mapped: BTreeMap<u32, Window>,
    pub(super) attached: BTreeSet<(u32, u32)>,
    pub(super) fences: Vec<Fence>,
    pub(super) submitted: Vec<(u32, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Held>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left of the guest.
    pub(super) fn is_empty(&self) -> bool {
        let held = self.lock();
        held.contexts.is_empty()
            && held.resources.is_empty()
            && held.backings.is_empty()
            && held.mapped.is_empty()
            && held.attached.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Fake {
    capsets: Vec<Capset>,
    held: Shared,
}

impl Fake {
    pub(super) fn new(held: Shared) -> Self {
        let venus = Capset {
            id: Capset::VENUS,
            version: 0,
            contents: (1..=160).collect(),
        };
        Self {
            capsets: vec![venus],
            held,
        }
    }

    /// One that also pretends to draw OpenGL.
    pub(super) fn with_opengl(held: Shared) -> Self {
        let mut fake = Self::new(held);
        fake.capsets
            .extend([Capset::VIRGL, Capset::VIRGL2].map(|id| Capset {
                id,
                version: id,
                contents: vec![1; 308],
            }));
        fake
    }
}

impl Renderer for Fake {
    fn capsets(&self) -> &[Capset] {
        &self.capsets
    }

    fn create_context(&mut self, context: u32, capset: u32, name: &[u8]) -> io::Result<()> {
        assert!(name.len() <= 64);
        assert!(self.capsets.iter().any(|served| served.id == capset));
        assert!(self.held.lock().contexts.insert(context));
        Ok(())
    }

    fn destroy_context(&mut self, context: u32) {
        let mut held = self.held.lock();
        assert!(held.contexts.remove(&context));
        held.attached.retain(|(owner, _)| *owner != context);
    }

    fn create_resource(&mut self, resource: u32, shape: &Shape3d) -> io::Result<()> {
        if shape.width == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        assert!(self.held.lock().resources.insert(resource, None).is_none());
        Ok(())
    }

    fn create_blob(
        &mut self,
        context: u32,
        blob: &CreateBlob<'_>,
        backing: Option<Backing>,
    ) -> io::Result<()> {
        let mut held = self.held.lock();
        assert!(context == 0 || held.contexts.contains(&context));
        let memory = match blob.blob {
            OPAQUE => None,
            _ if blob.memory == BlobMemory::Guest => None,
            SHORT => Some(blob.size.saturating_sub(PAGE)),
            _ => Some(blob.size),
        };
        assert!(held.resources.insert(blob.resource, memory).is_none());
        if let Some(backing) = backing {
            assert!(backing.length() >= blob.size);
            held.backings.insert(blob.resource, backing.length());
        }
        Ok(())
    }

    fn unref(&mut self, resource: u32) {
        let mut held = self.held.lock();
        assert!(held.resources.remove(&resource).is_some());
        assert!(!held.mapped.contains_key(&resource), "unref while mapped");
        held.backings.remove(&resource);
        held.attached.retain(|(_, attached)| *attached != resource);
    }

    fn attach_backing(&mut self, resource: u32, backing: Backing) -> io::Result<()> {
        let mut held = self.held.lock();
        assert!(held.resources.contains_key(&resource));
        assert!(held.backings.insert(resource, backing.length()).is_none());
        Ok(())
    }

    fn detach_backing(&mut self, resource: u32) {
        assert!(self.held.lock().backings.remove(&resource).is_some());
    }

    fn attach(&mut self, context: u32, resource: u32) {
        assert!(self.held.lock().attached.insert((context, resource)));
    }

    fn detach(&mut self, context: u32, resource: u32) {
        assert!(self.held.lock().attached.remove(&(context, resource)));
    }

    fn submit(&mut self, context: u32, commands: &[u8]) -> io::Result<()> {
        assert_eq!(commands.len() % 4, 0);
        assert!(
            commands.as_ptr().addr().is_multiple_of(8),
            "aligned commands"
        );
        self.held
            .lock()
            .submitted
            .push((context, commands.to_vec()));
        Ok(())
    }

    fn transfer_to_host(&mut self, _context: u32, transfer: &Transfer3d) -> io::Result<()> {
        assert!(self.held.lock().backings.contains_key(&transfer.resource));
        Ok(())
    }

    fn transfer_from_host(&mut self, context: u32, transfer: &Transfer3d) -> io::Result<()> {
        self.transfer_to_host(context, transfer)
    }

    fn create_fence(&mut self, fence: Fence) -> io::Result<()> {
        let mut held = self.held.lock();
        match fence.context {
            0 => assert!(fence.ring == 0 && self.capsets.len() > 1),
            context => assert!(held.contexts.contains(&context) && fence.ring < 64),
        }
        held.fences.push(fence);
        Ok(())
    }

    fn map_info(&mut self, _resource: u32) -> io::Result<u32> {
        Ok(0x31)
    }

    fn export(&mut self, resource: u32) -> io::Result<BlobHandle> {
        match self.held.lock().resources.get(&resource) {
            Some(Some(size)) => Ok(BlobHandle::Mappable(memory(*size)?)),
            _ => Ok(BlobHandle::Opaque),
        }
    }

    /// Shared memory of two pages.
    fn map(&mut self, resource: u32) -> io::Result<(*mut c_void, u64)> {
        use std::os::fd::AsFd;
        let length = usize::try_from(2 * PAGE).map_err(io::Error::other)?;
        let mut window = Window::reserve(length)?;
        window.place(0, length, memory(2 * PAGE)?.as_fd())?;
        let host = window.host().cast();
        assert!(self.held.lock().mapped.insert(resource, window).is_none());
        Ok((host, 2 * PAGE))
    }

    fn unmap(&mut self, resource: u32) {
        assert!(self.held.lock().mapped.remove(&resource).is_some());
    }
}

fn memory(size: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create("blob", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, size)?;
    Ok(memory)
}
