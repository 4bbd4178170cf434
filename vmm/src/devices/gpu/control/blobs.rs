//! Blobs: memory that host and guest share, and its way into the window.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::resources::{Kind, Mapped, Resource};
use super::{Control, MOST_MAPPED, refusal};
use crate::devices::gpu::protocol::{BlobMemory, CreateBlob, Refusal, Response};
use crate::devices::gpu::renderer::BlobHandle;
use crate::devices::gpu::window::Slot;
use crate::layout::PAGE;
use crate::memory::{Aliased, GuestMemory};

/// The part of a map info that the guest is told.
const CACHE_MASK: u32 = 0xf;

impl Control {
    pub(super) fn create_blob(
        &mut self,
        memory: &GuestMemory,
        context: u32,
        blob: &CreateBlob<'_>,
    ) -> Result<(), Refusal> {
        self.check_new(blob.resource)?;
        if context != 0 {
            self.contexts.find(context)?;
        }
        let size = blob
            .size
            .checked_next_multiple_of(PAGE)
            .filter(|size| *size > 0)
            .ok_or(Refusal::Parameter)?;
        if blob.flags & !CreateBlob::ALL_FLAGS != 0 {
            return Err(Refusal::Parameter);
        }
        let of_host = blob.memory != BlobMemory::Guest;
        let of_guest = blob.memory != BlobMemory::Host3d;
        // The host's memory is a context's.
        if of_host && context == 0 {
            return Err(Refusal::Context);
        }
        let charge = if of_host { size } else { 0 };
        let total = self.blob_bytes.checked_add(charge);
        let total = total
            .filter(|total| *total <= self.memory_limit)
            .ok_or(Refusal::OutOfMemory)?;
        let backing = match of_guest {
            true => Some(self.backing(memory, blob.entries)?),
            false if blob.entries.is_empty() => None,
            false => return Err(Refusal::Parameter),
        };
        if backing
            .as_ref()
            .is_some_and(|backing| backing.length() < blob.size)
        {
            return Err(Refusal::Parameter);
        }
        let pieces = backing.as_ref().map(|backing| backing.pieces().len());
        self.renderer
            .create_blob(context, blob, backing)
            .map_err(refusal)?;
        let mut resource = Resource::new(Kind::Blob {
            size: blob.size,
            charge,
            mappable: of_host && blob.flags & CreateBlob::MAPPABLE != 0,
            mapped: None,
        });
        resource.backing = pieces;
        self.pieces += pieces.unwrap_or(0);
        self.blob_bytes = total;
        self.resources.insert(blob.resource, resource);
        Ok(())
    }

    pub(super) fn map_blob(&mut self, resource: u32, offset: u64) -> Result<Response, Refusal> {
        let Kind::Blob {
            size,
            mappable: true,
            mapped: None,
            ..
        } = self.resource(resource)?.kind
        else {
            return Err(Refusal::Parameter);
        };
        if self.mapped >= MOST_MAPPED {
            return Err(Refusal::OutOfMemory);
        }
        let slot = self.window.slot(offset, size).ok_or(Refusal::Parameter)?;
        let info = self.renderer.map_info(resource).map_err(refusal)?;
        let by_renderer = match self.renderer.export(resource).map_err(refusal)? {
            BlobHandle::Mappable(handle) => {
                self.place(slot, handle.as_fd())?;
                None
            }
            BlobHandle::Opaque => Some(self.alias(slot, resource)?),
        };
        if let Kind::Blob { mapped, .. } = &mut self.resource(resource)?.kind {
            *mapped = Some(Mapped { slot, by_renderer });
            self.mapped += 1;
        }
        Ok(Response::Mapped(info & CACHE_MASK))
    }

    /// A blob's memory for another process of the host, for a server whose clients are such.
    pub fn export(&mut self, resource: u32) -> Option<OwnedFd> {
        match self.renderer.export(resource) {
            Ok(BlobHandle::Mappable(handle)) => Some(handle),
            Ok(BlobHandle::Opaque) => None,
            Err(error) => {
                tracing::debug!(%error, resource, "virtio-gpu: export a blob");
                None
            }
        }
    }

    pub(super) fn unmap_blob(&mut self, resource: u32) -> Result<(), Refusal> {
        let Kind::Blob {
            mapped: Some(Mapped { slot, by_renderer }),
            ..
        } = self.resource(resource)?.kind
        else {
            return Err(Refusal::Parameter);
        };
        self.window.clear(slot).map_err(refusal)?;
        if by_renderer.is_some() {
            self.renderer.unmap(resource);
        }
        self.mapped = self.mapped.saturating_sub(1);
        if let Kind::Blob {
            mapped, mappable, ..
        } = &mut self.resource(resource)?.kind
        {
            *mapped = None;
            // What was moved here is gone; drivers were seen to keep a mapping and hand it out
            // again. Linux maps a blob once.
            *mappable &= by_renderer != Some(Aliased::Moved);
        }
        Ok(())
    }

    /// An access behind the end of a file ends the guest, so the file must be large enough.
    fn place(&mut self, slot: Slot, handle: BorrowedFd<'_>) -> Result<(), Refusal> {
        let status = rustix::fs::fstat(handle).map_err(|errno| refusal(errno.into()))?;
        let size = u64::try_from(status.st_size).unwrap_or(0);
        if size.next_multiple_of(PAGE) < slot.length() {
            return Err(Refusal::Unspecified);
        }
        self.window.place(slot, handle).map_err(refusal)
    }

    fn alias(&mut self, slot: Slot, resource: u32) -> Result<Aliased, Refusal> {
        let (host, size) = self.renderer.map(resource).map_err(refusal)?;
        let fits = size
            .checked_next_multiple_of(PAGE)
            .is_some_and(|size| size >= slot.length());
        let placed = if fits && (host.addr() as u64).is_multiple_of(PAGE) {
            // SAFETY: the renderer has mapped `size` bytes there, rounded up to pages, until it
            // is told to unmap them, and uses them for nothing.
            unsafe { self.window.alias(slot, host) }.map_err(refusal)
        } else {
            Err(Refusal::Unspecified)
        };
        if placed.is_err() {
            self.renderer.unmap(resource);
        }
        placed
    }
}
