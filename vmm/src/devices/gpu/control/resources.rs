//! Resources: images, textures, and what they have in common with blobs.
//!
//! An image (a resource of `RESOURCE_CREATE_2D`) is for displays. There is none, so an image is
//! its number, and takes no memory of the host's.

use rustix::rand::{GetRandomFlags, getrandom};

use super::{Control, MOST_RESOURCES, refusal};
use crate::devices::gpu::protocol::{MemoryEntry, Refusal, Response, Shape3d, Transfer3d};
use crate::devices::gpu::window::Slot;
use crate::memory::{Aliased, GuestMemory};

/// A resource.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    /// Pieces of its backing.
    pub(super) backing: Option<usize>,
    uuid: Option<[u8; 16]>,
}

/// What a resource is.
#[derive(Debug)]
pub(super) enum Kind {
    Image,
    Texture,
    Blob {
        size: u64,
        /// Host memory that is counted for it.
        charge: u64,
        mappable: bool,
        mapped: Option<Mapped>,
    },
}

/// Where a blob is mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapped {
    pub(super) slot: Slot,
    /// The renderer has mapped it as well, and how it came into the window from there.
    pub(super) by_renderer: Option<Aliased>,
}

impl Resource {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            backing: None,
            uuid: None,
        }
    }

    /// Whether the renderer knows of it.
    pub(super) fn is_rendered(&self) -> bool {
        !matches!(self.kind, Kind::Image)
    }
}

impl Control {
    pub(super) fn resource(&mut self, resource: u32) -> Result<&mut Resource, Refusal> {
        self.resources.get_mut(&resource).ok_or(Refusal::Resource)
    }

    /// Whether a resource of this number can be made.
    pub(super) fn check_new(&self, resource: u32) -> Result<(), Refusal> {
        if resource == 0 || self.resources.contains_key(&resource) {
            return Err(Refusal::Resource);
        }
        if self.resources.len() >= MOST_RESOURCES {
            return Err(Refusal::OutOfMemory);
        }
        Ok(())
    }

    pub(super) fn create_image(
        &mut self,
        resource: u32,
        width: u32,
        height: u32,
    ) -> Result<(), Refusal> {
        self.check_new(resource)?;
        if width == 0 || height == 0 {
            return Err(Refusal::Parameter);
        }
        self.resources.insert(resource, Resource::new(Kind::Image));
        Ok(())
    }

    pub(super) fn create_texture(&mut self, resource: u32, shape: &Shape3d) -> Result<(), Refusal> {
        self.check_new(resource)?;
        self.renderer
            .create_resource(resource, shape)
            .map_err(refusal)?;
        self.resources
            .insert(resource, Resource::new(Kind::Texture));
        Ok(())
    }

    /// Forgets a resource. It is taken out of the window first, since its memory goes with it.
    pub(super) fn unref(&mut self, resource: u32) -> Result<(), Refusal> {
        let found = self.resource(resource)?;
        if let Kind::Blob {
            mapped: Some(_), ..
        } = found.kind
        {
            self.unmap_blob(resource)?;
        }
        let Some(gone) = self.resources.remove(&resource) else {
            return Err(Refusal::Resource);
        };
        self.contexts.forget(resource);
        if gone.is_rendered() {
            self.renderer.unref(resource);
        }
        if let Kind::Blob { charge, .. } = gone.kind {
            self.blob_bytes = self.blob_bytes.saturating_sub(charge);
        }
        self.pieces = self.pieces.saturating_sub(gone.backing.unwrap_or(0));
        Ok(())
    }

    pub(super) fn attach_backing(
        &mut self,
        memory: &GuestMemory,
        resource: u32,
        entries: &[MemoryEntry],
    ) -> Result<(), Refusal> {
        if self.resource(resource)?.backing.is_some() {
            return Err(Refusal::Parameter);
        }
        let backing = self.backing(memory, entries)?;
        let mut pieces = backing.pieces().len();
        if self.resource(resource)?.is_rendered() {
            self.renderer
                .attach_backing(resource, backing)
                .map_err(refusal)?;
        } else {
            // An image's backing is never read.
            pieces = 0;
        }
        self.pieces += pieces;
        self.resource(resource)?.backing = Some(pieces);
        Ok(())
    }

    pub(super) fn detach_backing(&mut self, resource: u32) -> Result<(), Refusal> {
        let found = self.resource(resource)?;
        let pieces = found.backing.take().ok_or(Refusal::Parameter)?;
        if found.is_rendered() {
            self.renderer.detach_backing(resource);
        }
        self.pieces = self.pieces.saturating_sub(pieces);
        Ok(())
    }

    /// Checks a copy. Context 0 is the device's own.
    pub(super) fn find_for_transfer(
        &mut self,
        context: u32,
        transfer: &Transfer3d,
    ) -> Result<(), Refusal> {
        if context != 0 {
            self.contexts.find(context)?;
        }
        let found = self.resource(transfer.resource)?;
        match found.is_rendered() && found.backing.is_some() {
            true => Ok(()),
            false => Err(Refusal::Resource),
        }
    }

    /// Gives a resource a name, the same each time.
    pub(super) fn assign_uuid(&mut self, resource: u32) -> Result<Response, Refusal> {
        let found = self.resource(resource)?;
        let uuid = match found.uuid {
            Some(uuid) => uuid,
            None => {
                let mut uuid = [0; 16];
                getrandom(&mut uuid, GetRandomFlags::empty())
                    .map_err(|errno| refusal(errno.into()))?;
                // Version 4, variant 1: a random one (RFC 9562).
                let mut number = u128::from_be_bytes(uuid);
                number = number & !(0xf << 76) | 4 << 76;
                number = number & !(3 << 62) | 2 << 62;
                *found.uuid.insert(number.to_be_bytes())
            }
        };
        Ok(Response::Uuid(uuid))
    }
}
