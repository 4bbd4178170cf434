//! A queue at work: chains in, answers out, at once or when a fence is signalled.
//!
//! The rings are the guest's. A command is copied before it is looked at, and it is bounded; a
//! queue whose indices make no sense is left alone until the device is reset.

use std::io::{Read, Write};

use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::IntoBytes;

use super::control::{Control, QueueKind};
use super::fences::Fences;
use crate::memory::GuestMemory;
use crate::virtio::{ActiveQueue, Interrupt};

/// The longest command. Linux sends command streams and lists of pages; Venus's streams are in
/// blobs, and a list of this length describes 4 GiB in pages.
const LONGEST_COMMAND: usize = 16 << 20;
/// A buffer that has grown beyond this is given back.
const KEPT_BUFFER: usize = 1 << 20;
/// Commands in one pass; signalled fences have their turn in between.
const PASS: usize = 64;

/// A chain that was served and is not returned yet: its head, and bytes written to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    head: u16,
    written: u32,
}

/// Where commands are copied to: aligned so that what follows the header of a submission is.
#[derive(Debug, Default)]
pub(super) struct CommandBuffer {
    words: Vec<u64>,
}

impl CommandBuffer {
    /// Room for a command of this length.
    fn room(&mut self, length: usize) -> &mut [u8] {
        if self.words.capacity() > KEPT_BUFFER / 8 {
            self.words = Vec::new();
        }
        self.words.resize(length.div_ceil(8), 0);
        self.words
            .as_mut_bytes()
            .get_mut(..length)
            .unwrap_or_default()
    }
}

/// A queue.
#[derive(Debug)]
pub(super) struct Served {
    queue: ActiveQueue,
    kind: QueueKind,
    broken: bool,
}

impl Served {
    pub(super) fn new(queue: ActiveQueue, kind: QueueKind) -> Self {
        Self {
            queue,
            kind,
            broken: false,
        }
    }

    pub(super) fn doorbell(&self) -> &EventFd {
        &self.queue.doorbell
    }

    /// Serves some of what is there; whether there is more.
    pub(super) fn pass(
        &mut self,
        control: &mut Control,
        buffer: &mut CommandBuffer,
        memory: &GuestMemory,
        interrupt: &Interrupt,
        fences: &mut Fences<Buffer>,
    ) -> bool {
        if self.broken {
            return false;
        }
        let more = self.serve(control, buffer, memory, interrupt, fences);
        more.unwrap_or_else(|error| self.give_up(&error))
    }

    /// Returns chains that waited for fences.
    pub(super) fn finish(
        &mut self,
        memory: &GuestMemory,
        interrupt: &Interrupt,
        done: Vec<Buffer>,
    ) {
        if self.broken || done.is_empty() {
            return;
        }
        let returned = self
            .give_back(memory, done)
            .and_then(|()| self.notify(memory, interrupt));
        if let Err(error) = returned {
            self.give_up(&error);
        }
    }

    fn serve(
        &mut self,
        control: &mut Control,
        buffer: &mut CommandBuffer,
        memory: &GuestMemory,
        interrupt: &Interrupt,
        fences: &mut Fences<Buffer>,
    ) -> Result<bool, virtio_queue::Error> {
        let mut taken = 0;
        let mut returned = false;
        self.queue.queue.disable_notification(&**memory)?;
        let more = loop {
            if taken >= PASS {
                break true;
            }
            let Some(chain) = self.queue.queue.iter(&**memory)?.next() else {
                if self.queue.queue.enable_notification(&**memory)? {
                    self.queue.queue.disable_notification(&**memory)?;
                    continue;
                }
                break false;
            };
            taken += 1;
            let head = chain.head_index();
            let (command, room) = copy(memory, &chain, buffer);
            let reply = control.execute(self.kind, memory, command);
            let written = answer(room, &reply.bytes);
            let served = Buffer { head, written };
            match reply.fence {
                // More than the queue has can wait only if the guest reuses what waits.
                Some(fence) if fences.waiting() < usize::from(self.queue.queue.size()) => {
                    fences.wait(fence, served);
                }
                _ => {
                    returned = true;
                    self.give_back(memory, vec![served])?;
                }
            }
            if let Some(context) = reply.ended {
                let gone = fences.forget(context);
                returned |= !gone.is_empty();
                self.give_back(memory, gone)?;
            }
        };
        if returned {
            self.notify(memory, interrupt)?;
        }
        Ok(more)
    }

    fn give_back(
        &mut self,
        memory: &GuestMemory,
        done: Vec<Buffer>,
    ) -> Result<(), virtio_queue::Error> {
        for Buffer { head, written } in done {
            self.queue.queue.add_used(&**memory, head, written)?;
        }
        Ok(())
    }

    fn notify(
        &mut self,
        memory: &GuestMemory,
        interrupt: &Interrupt,
    ) -> Result<(), virtio_queue::Error> {
        if self.queue.queue.needs_notification(&**memory)? {
            interrupt.signal_used();
        }
        Ok(())
    }

    fn give_up(&mut self, error: &virtio_queue::Error) -> bool {
        tracing::warn!(%error, queue = ?self.kind, "gpu: the guest broke a virtqueue");
        self.broken = true;
        false
    }
}

type Room<'m> = virtio_queue::Writer<'m>;

/// Copies a chain's command, and finds the room for its answer. A command that cannot be read
/// or is too long is empty, which has no answer.
fn copy<'b, 'm>(
    memory: &'m GuestMemoryMmap,
    chain: &DescriptorChain<&'m GuestMemoryMmap>,
    buffer: &'b mut CommandBuffer,
) -> (&'b [u8], Option<Room<'m>>) {
    let room = chain.clone().writer(memory).ok();
    let Ok(mut reader) = chain.clone().reader(memory) else {
        return (&[], room);
    };
    let length = reader.available_bytes();
    if length > LONGEST_COMMAND {
        tracing::debug!(length, "virtio-gpu: a command is too long");
        return (&[], room);
    }
    let command = buffer.room(length);
    match reader.read_exact(command) {
        Ok(()) => (command, room),
        Err(_) => (&[], room),
    }
}

/// Writes an answer, as far as there is room.
fn answer(room: Option<Room<'_>>, bytes: &[u8]) -> u32 {
    let Some(mut room) = room else { return 0 };
    let length = bytes.len().min(room.available_bytes());
    let (bytes, _) = bytes.split_at(length);
    match room.write_all(bytes) {
        Ok(()) => u32::try_from(length).unwrap_or(0),
        Err(_) => 0,
    }
}
