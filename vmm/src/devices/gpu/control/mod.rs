//! The control queue's commands, carried out.
//!
//! The GPU's thread calls [`Control::execute`] with the bytes of each command; so do tests and
//! servers that have no guest. Everything that a command names is looked up here, and every
//! number that reaches memory or the window is checked here; the renderer gets the rest.
//!
//! The guest can hold host memory through blobs, up to a limit that its owner sets, and numbers,
//! up to the limits below. What commands inside a context allocate is the renderer's own, in the
//! render server's processes.

mod blobs;
mod contexts;
mod resources;

use std::collections::HashMap;
use std::io;

use super::backing::{Backing, MOST_PIECES};
use super::protocol::{Command, Header, MemoryEntry, Refusal, Response};
use super::renderer::{Capset, Fence, Renderer};
use super::window::BlobWindow;
use crate::memory::{GuestMemory, Window};
use contexts::Contexts;
use resources::Resource;

/// Resources at a time.
pub const MOST_RESOURCES: usize = 65_536;
/// Contexts at a time; each is a process of the render server.
pub const MOST_CONTEXTS: usize = 256;
/// Blobs in the window at a time: each is a mapping, of which a process has 65,530.
pub const MOST_MAPPED: usize = 16_384;
/// Rings of a context, virglrenderer's number.
const RINGS: u8 = 64;

/// Which queue a command came on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueueKind {
    /// The control queue.
    Control,
    /// The cursor queue.
    Cursor,
}

/// What became of a command.
#[derive(Debug)]
pub struct Reply {
    /// The answer's bytes; none if not even the command's header was there.
    pub bytes: Vec<u8>,
    /// The guest is to have the answer when this fence is signalled; without one, now.
    pub fence: Option<Fence>,
    /// A context that is gone, with its fences.
    pub ended: Option<u32>,
}

/// The state of the device: its resources, contexts and window.
#[derive(Debug)]
pub struct Control {
    renderer: Box<dyn Renderer>,
    window: BlobWindow,
    memory_limit: u64,
    resources: HashMap<u32, Resource>,
    contexts: Contexts,
    /// Bytes of host memory in blobs.
    blob_bytes: u64,
    /// Pieces of guest memory in backings.
    pieces: usize,
    mapped: usize,
    last_fence: u64,
}

impl Control {
    /// A device without resources. Blobs may hold `memory_limit` bytes of host memory.
    pub(super) fn new(renderer: Box<dyn Renderer>, window: Window, memory_limit: u64) -> Self {
        Self {
            renderer,
            window: BlobWindow::new(window),
            memory_limit,
            resources: HashMap::new(),
            contexts: Contexts::default(),
            blob_bytes: 0,
            pieces: 0,
            mapped: 0,
            last_fence: 0,
        }
    }

    /// Carries out a command.
    pub fn execute(&mut self, queue: QueueKind, memory: &GuestMemory, command: &[u8]) -> Reply {
        let mut reply = Reply {
            bytes: Vec::new(),
            fence: None,
            ended: None,
        };
        let Some((header, body)) = Header::parse(command) else {
            return reply;
        };
        let lived = self.contexts.contains(header.context);
        let result = self.carry_out(queue, memory, &header, body);
        let lives = self.contexts.contains(header.context);
        reply.ended = (lived && !lives).then_some(header.context);
        reply.bytes = match result {
            Ok((response, fence)) => {
                reply.fence = fence;
                response.bytes(&header)
            }
            Err(refusal) => {
                tracing::debug!(?header, ?refusal, "virtio-gpu: refused a command");
                refusal.bytes(&header)
            }
        };
        reply
    }

    /// Forgets everything, as if the guest had never been.
    pub fn reset(&mut self) {
        for resource in self.resources.keys().copied().collect::<Vec<_>>() {
            // A resource that cannot be unmapped stays, with its place in the window.
            let _ = self.unref(resource);
        }
        for context in self.contexts.ids() {
            let _ = self.destroy_context(context);
        }
    }

    fn carry_out(
        &mut self,
        queue: QueueKind,
        memory: &GuestMemory,
        header: &Header,
        body: &[u8],
    ) -> Result<(Response, Option<Fence>), Refusal> {
        let command = Command::parse(header, body).map_err(|error| {
            tracing::debug!(%error, "virtio-gpu: malformed command");
            Refusal::Unspecified
        })?;
        let ring = header.fence.and(header.ring);
        if ring.is_some_and(|ring| ring >= RINGS) {
            return Err(Refusal::Parameter);
        }
        if ring.is_some() && !matches!(command, Command::CreateContext { .. }) {
            self.contexts.find(header.context)?;
        }
        let response = match queue {
            QueueKind::Control => self.control(memory, header.context, &command),
            QueueKind::Cursor => cursor(&command),
        }?;
        // A context takes its fences with it.
        let fence = match ring {
            Some(ring) if self.contexts.contains(header.context) => {
                Some(self.create_fence(header.context, ring)?)
            }
            // What is not on a ring is done by now, but for OpenGL's.
            None if header.fence.is_some() && self.contexts.is_opengl(header.context) => {
                Some(self.create_fence(0, 0)?)
            }
            _ => None,
        };
        Ok((response, fence))
    }

    /// Fences get numbers of ours, which grow whatever the guest's do.
    fn create_fence(&mut self, context: u32, ring: u8) -> Result<Fence, Refusal> {
        self.last_fence += 1;
        let fence = Fence {
            context,
            ring,
            id: self.last_fence,
        };
        self.renderer.create_fence(fence).map_err(refusal)?;
        Ok(fence)
    }

    fn control(
        &mut self,
        memory: &GuestMemory,
        context: u32,
        command: &Command<'_>,
    ) -> Result<Response, Refusal> {
        match *command {
            Command::GetDisplayInfo => return Ok(Response::NoDisplay),
            Command::GetCapsetInfo { index } => return self.capset_info(index),
            Command::GetCapset { id, version } => return self.capset(id, version),
            Command::AssignUuid { resource } => return self.assign_uuid(resource),
            Command::MapBlob { resource, offset } => return self.map_blob(resource, offset),
            Command::CreateResource2d {
                resource,
                width,
                height,
                ..
            } => self.create_image(resource, width, height),
            Command::CreateResource3d {
                resource,
                ref shape,
            } => self.create_texture(resource, shape),
            Command::UnrefResource { resource } => self.unref(resource),
            Command::FlushResource { resource, .. }
            | Command::TransferToHost2d { resource, .. } => {
                // No display shows an image, so its copy on the host is never looked at.
                self.resource(resource).map(drop)
            }
            Command::AttachBacking { resource, entries } => {
                self.attach_backing(memory, resource, entries)
            }
            Command::DetachBacking { resource } => self.detach_backing(resource),
            Command::CreateBlob(ref blob) => self.create_blob(memory, context, blob),
            Command::UnmapBlob { resource } => self.unmap_blob(resource),
            Command::CreateContext { init, name } => self.create_context(context, init, name),
            Command::DestroyContext => self.destroy_context(context),
            Command::AttachResource { resource } => self.attach(context, resource),
            Command::DetachResource { resource } => self.detach(context, resource),
            Command::Submit { commands } => self.submit(context, commands),
            Command::TransferToHost3d(ref transfer) => {
                self.find_for_transfer(context, transfer)?;
                let copied = self.renderer.transfer_to_host(context, transfer);
                copied.map_err(refusal)
            }
            Command::TransferFromHost3d(ref transfer) => {
                self.find_for_transfer(context, transfer)?;
                let copied = self.renderer.transfer_from_host(context, transfer);
                copied.map_err(refusal)
            }
            Command::SetScanout { .. }
            | Command::SetScanoutBlob { .. }
            | Command::GetEdid { .. } => Err(Refusal::Scanout),
            // These belong on the other queue.
            Command::UpdateCursor { .. } | Command::MoveCursor { .. } => Err(Refusal::Unspecified),
        }?;
        Ok(Response::Done)
    }

    /// How many capability sets there are.
    pub(super) fn capset_count(&self) -> u32 {
        u32::try_from(self.renderer.capsets().len()).unwrap_or(u32::MAX)
    }

    fn find_capset(&self, id: u32) -> Result<&Capset, Refusal> {
        let mut capsets = self.renderer.capsets().iter();
        let found = capsets.find(|capset| capset.id == id);
        found.ok_or(Refusal::Parameter)
    }

    fn capset_info(&self, index: u32) -> Result<Response, Refusal> {
        let index = usize::try_from(index).map_err(|_| Refusal::Parameter)?;
        let capset = self.renderer.capsets().get(index);
        let capset = capset.ok_or(Refusal::Parameter)?;
        Ok(Response::CapsetInfo {
            id: capset.id,
            version: capset.version,
            size: u32::try_from(capset.contents.len()).unwrap_or(u32::MAX),
        })
    }

    fn capset(&self, id: u32, version: u32) -> Result<Response, Refusal> {
        let capset = self.find_capset(id)?;
        if version > capset.version {
            return Err(Refusal::Parameter);
        }
        Ok(Response::Capset(capset.contents.clone()))
    }

    /// The guest's memory in these places, if there is room for as many.
    fn backing(&self, memory: &GuestMemory, entries: &[MemoryEntry]) -> Result<Backing, Refusal> {
        let room = MOST_PIECES.saturating_sub(self.pieces);
        if entries.len() > room {
            return Err(Refusal::OutOfMemory);
        }
        let backing = Backing::new(memory, entries).ok_or(Refusal::Parameter)?;
        if backing.pieces().len() > room {
            return Err(Refusal::OutOfMemory);
        }
        Ok(backing)
    }
}

/// There is no display for a pointer.
fn cursor(command: &Command<'_>) -> Result<Response, Refusal> {
    match command {
        Command::UpdateCursor { .. } | Command::MoveCursor { .. } => Err(Refusal::Scanout),
        _ => Err(Refusal::Unspecified),
    }
}

/// What the guest is told of an error of the renderer's or the host's.
fn refusal(error: io::Error) -> Refusal {
    tracing::debug!(%error, "virtio-gpu: the renderer refused");
    match error.raw_os_error() {
        Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC) => Refusal::OutOfMemory,
        Some(libc::EINVAL) => Refusal::Parameter,
        _ => Refusal::Unspecified,
    }
}
