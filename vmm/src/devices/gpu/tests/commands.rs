//! Commands as a guest writes them, and answers as it reads them.

use super::super::control::{Control, QueueKind, Reply};
use super::renderer::{Fake, Shared};
use crate::devices::gpu::renderer::Capset;
use crate::layout::Range;
use crate::memory::{GuestMemory, Window};

use std::sync::Arc;
use vm_memory::{GuestAddress, GuestMemoryMmap};

pub(super) const MEMORY: u64 = 4 << 20;
pub(super) const WINDOW: u64 = 128 << 20;
pub(super) const LIMIT: u64 = 96 << 20;

pub(super) const OK: u32 = 0x1100;
pub(super) const MAPPED: u32 = 0x1106;
pub(super) const UNSPECIFIED: u32 = 0x1200;
pub(super) const OUT_OF_MEMORY: u32 = 0x1201;
pub(super) const NO_SCANOUT: u32 = 0x1202;
pub(super) const NO_RESOURCE: u32 = 0x1203;
pub(super) const NO_CONTEXT: u32 = 0x1204;
pub(super) const INVALID: u32 = 0x1205;

/// A command with this number, flags, fence, context, ring and body.
pub(super) fn full(
    kind: u32,
    flags: u32,
    fence: u64,
    context: u32,
    ring: u8,
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = words(&[kind, flags]);
    bytes.extend(fence.to_le_bytes());
    bytes.extend(context.to_le_bytes());
    bytes.extend([ring, 0, 0, 0]);
    bytes.extend(body);
    bytes
}

pub(super) fn words(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

pub(super) fn blob_body(
    resource: u32,
    memory: u32,
    blob: u64,
    size: u64,
    entries: &[(u64, u32)],
) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap();
    let mut body = words(&[resource, memory, 1, count]);
    body.extend(blob.to_le_bytes());
    body.extend(size.to_le_bytes());
    body.extend(self::entries(entries));
    body
}

pub(super) fn entries(entries: &[(u64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (address, length) in entries {
        bytes.extend(address.to_le_bytes());
        bytes.extend(words(&[*length, 0]));
    }
    bytes
}

/// The device without queues.
pub(super) struct Device {
    pub(super) control: Control,
    pub(super) held: Shared,
    pub(super) memory: GuestMemory,
}

impl Device {
    pub(super) fn new() -> Self {
        Self::on(Fake::new)
    }

    /// One that also serves OpenGL.
    pub(super) fn with_opengl() -> Self {
        Self::on(Fake::with_opengl)
    }

    fn on(fake: fn(Shared) -> Fake) -> Self {
        let held = Shared::default();
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]);
        Self {
            control: Control::new(Box::new(fake(held.clone())), window(), LIMIT),
            held,
            memory: Arc::new(memory.unwrap()),
        }
    }

    /// Executes whatever these bytes are.
    pub(super) fn raw(&mut self, command: &[u8]) -> Reply {
        self.control
            .execute(QueueKind::Control, &self.memory, command)
    }

    /// The kind of the answer to a command for a context.
    pub(super) fn send(&mut self, kind: u32, context: u32, body: &[u8]) -> u32 {
        answer(&self.raw(&full(kind, 0, 0, context, 0, body)))
    }

    pub(super) fn context(&mut self, context: u32) -> u32 {
        self.context_of(context, Capset::VENUS)
    }

    pub(super) fn context_of(&mut self, context: u32, init: u32) -> u32 {
        let mut body = words(&[0, init]);
        body.resize(72, 0);
        self.send(0x200, context, &body)
    }

    /// A blob of the host's in context 1.
    pub(super) fn blob(&mut self, resource: u32, blob: u64, size: u64) -> u32 {
        self.send(0x10c, 1, &blob_body(resource, 2, blob, size, &[]))
    }

    pub(super) fn map(&mut self, resource: u32, offset: u64) -> u32 {
        let mut body = words(&[resource, 0]);
        body.extend(offset.to_le_bytes());
        self.send(0x208, 0, &body)
    }

    pub(super) fn about(&mut self, kind: u32, context: u32, resource: u32) -> u32 {
        self.send(kind, context, &words(&[resource, 0]))
    }

    pub(super) fn unmap(&mut self, resource: u32) -> u32 {
        self.about(0x209, 0, resource)
    }

    pub(super) fn unref(&mut self, resource: u32) -> u32 {
        self.about(0x102, 0, resource)
    }
}

pub(super) fn window() -> Window {
    Window::reserve(Range {
        start: 1 << 33,
        length: WINDOW,
    })
    .unwrap()
}

pub(super) fn answer(reply: &Reply) -> u32 {
    u32::from_le_bytes(*reply.bytes.first_chunk().unwrap())
}
