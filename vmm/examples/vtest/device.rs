//! The device, and what a guest's driver does: it numbers resources and chooses their places in
//! the window.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use krun_gpu_vmm::devices::gpu::{Control, Fence, GpuConfig, QueueKind, Reply};
use krun_gpu_vmm::layout::{PAGE, Range};
use krun_gpu_vmm::memory::{GuestMemory, Window};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// `VIRTIO_GPU_CMD_*`.
const UNREF: u32 = 0x102;
const GET_CAPSET: u32 = 0x109;
const CREATE_BLOB: u32 = 0x10c;
const CREATE_CONTEXT: u32 = 0x200;
const DESTROY_CONTEXT: u32 = 0x201;
const ATTACH: u32 = 0x202;
const SUBMIT: u32 = 0x207;
const MAP: u32 = 0x208;

const FENCE_ON_RING: u32 = 3;
const MAPPABLE: u32 = 1;

/// A blob, as a client gets it.
pub(super) struct Blob {
    pub(super) resource: u32,
    /// Bytes.
    pub(super) size: u64,
    /// Where in this process it is, if it may be mapped.
    pub(super) address: Option<usize>,
}

/// Turns a blob into a descriptor that its client can map.
pub(super) type Share = fn(&mut Control, &Blob) -> io::Result<OwnedFd>;

/// A blob's own descriptor, if it has one.
pub(super) fn descriptor(control: &mut Control, blob: &Blob) -> io::Result<OwnedFd> {
    control.export(blob.resource).ok_or_else(|| {
        let kind = match blob.address {
            Some(_) => "can be mapped by a Vulkan driver alone (inside.rs serves it)",
            None => "is not to be mapped",
        };
        io::Error::other(format!("a blob of {} bytes {kind}", blob.size))
    })
}

/// The device without a guest.
pub(super) struct Device {
    control: Control,
    share: Share,
    memory: GuestMemory,
    window: u64,
    /// Where the window is in this process.
    address: usize,
    fences: Receiver<Fence>,
    last_resource: u32,
    /// Lengths by offset in the window, and whose it is.
    places: BTreeMap<u64, (u64, u32)>,
}

impl Device {
    /// Starts the renderer in this thread. A byte is written to `waker` for each fence.
    pub(super) fn start(
        config: GpuConfig,
        share: Share,
        waker: UnixStream,
    ) -> Result<Self, Box<dyn Error>> {
        let window = config.window;
        let places = Window::reserve(Range {
            start: window,
            length: window,
        })?;
        let address = places.host_address();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)])?;
        let (sender, fences) = channel();
        let control = Control::start(config, places, move |fence| {
            if sender.send(fence).is_ok() {
                let _ = (&waker).write(&[0]);
            }
        })?;
        Ok(Self {
            control,
            share,
            memory: Arc::new(memory),
            window,
            address,
            fences,
            last_resource: 0,
            places: BTreeMap::new(),
        })
    }

    pub(super) fn signalled(&self) -> Vec<Fence> {
        self.fences.try_iter().collect()
    }

    pub(super) fn capset(&mut self, id: u32, version: u32) -> io::Result<Vec<u8>> {
        self.command(GET_CAPSET, 0, &words(&[id, version]))
    }

    pub(super) fn create_context(&mut self, context: u32, capset: u32) -> io::Result<()> {
        let mut body = words(&[5, capset]);
        body.extend(b"vtest");
        body.resize(72, 0);
        self.command(CREATE_CONTEXT, context, &body).map(drop)
    }

    pub(super) fn destroy_context(&mut self, context: u32) -> io::Result<()> {
        self.command(DESTROY_CONTEXT, context, &[]).map(drop)
    }

    /// Makes a blob of the context's, places it in the window as a guest would, and returns its
    /// number and memory.
    pub(super) fn create_blob(
        &mut self,
        context: u32,
        kind: u32,
        flags: u32,
        size: u64,
        blob: u64,
    ) -> io::Result<(u32, OwnedFd)> {
        self.last_resource += 1;
        let resource = self.last_resource;
        let mut body = words(&[resource, kind, flags, 0]);
        body.extend(blob.to_le_bytes());
        body.extend(size.to_le_bytes());
        self.command(CREATE_BLOB, context, &body)?;
        self.command(ATTACH, context, &words(&[resource, 0]))?;
        let mut address = None;
        if flags & MAPPABLE != 0 {
            let length = size.next_multiple_of(PAGE);
            let offset = self.place(length).ok_or(io::ErrorKind::StorageFull)?;
            let mut body = words(&[resource, 0]);
            body.extend(offset.to_le_bytes());
            self.command(MAP, context, &body)?;
            self.places.insert(offset, (length, resource));
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            address = Some(self.address + offset);
        }
        let blob = Blob {
            resource,
            size,
            address,
        };
        Ok((resource, (self.share)(&mut self.control, &blob)?))
    }

    pub(super) fn unref(&mut self, resource: u32) -> io::Result<()> {
        self.places.retain(|_, (_, owner)| *owner != resource);
        self.command(UNREF, 0, &words(&[resource, 0])).map(drop)
    }

    /// Submits commands, and a fence on a ring of the context.
    pub(super) fn submit(
        &mut self,
        context: u32,
        ring: u8,
        commands: &[u8],
    ) -> io::Result<Option<Fence>> {
        let length = u32::try_from(commands.len()).map_err(io::Error::other)?;
        let mut body = words(&[length, 0]);
        body.extend(commands);
        let reply = self.execute(SUBMIT, FENCE_ON_RING, context, ring, &body);
        let fence = reply.fence;
        check(SUBMIT, reply).map(|_| fence)
    }

    /// The first free place in the window.
    fn place(&self, length: u64) -> Option<u64> {
        let mut start = 0u64;
        for (offset, (taken, _)) in &self.places {
            if start + length <= *offset {
                break;
            }
            start = offset + taken;
        }
        (start.checked_add(length)? <= self.window).then_some(start)
    }

    fn command(&mut self, kind: u32, context: u32, body: &[u8]) -> io::Result<Vec<u8>> {
        let reply = self.execute(kind, 0, context, 0, body);
        check(kind, reply)
    }

    fn execute(&mut self, kind: u32, flags: u32, context: u32, ring: u8, body: &[u8]) -> Reply {
        let mut command = words(&[kind, flags, 0, 0, context, u32::from(ring)]);
        command.extend(body);
        self.control
            .execute(QueueKind::Control, &self.memory, &command)
    }
}

/// The body of the answer, if it is not a refusal.
fn check(kind: u32, reply: Reply) -> io::Result<Vec<u8>> {
    let answer = match reply.bytes.first_chunk() {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => 0,
    };
    if !(0x1100..0x1200).contains(&answer) {
        return Err(io::Error::other(format!(
            "the device answered {answer:#x} to command {kind:#x}"
        )));
    }
    Ok(reply.bytes.get(24..).unwrap_or_default().to_vec())
}

/// Numbers as a guest writes them.
pub(super) fn words(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}
