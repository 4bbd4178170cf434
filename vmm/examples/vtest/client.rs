//! One client: a context, its blobs, and its syncs (counters that fences set).

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use krun_gpu_vmm::devices::gpu::Fence;
use rustix::event::{EventfdFlags, eventfd};

use super::device::{Device, words};
use super::stream::{CREATE_RENDERER, Stream};

/// `VCMD_*`.
const UNREF: u32 = 3;
const BUSY_WAIT: u32 = 7;
const PING: u32 = 10;
const VERSION: u32 = 11;
const GET_PARAMETER: u32 = 15;
const GET_CAPSET: u32 = 16;
const CONTEXT_INIT: u32 = 17;
const CREATE_BLOB: u32 = 18;
const SYNC_CREATE: u32 = 19;
const SYNC_UNREF: u32 = 20;
const SYNC_READ: u32 = 21;
const SYNC_WRITE: u32 = 22;
const SYNC_WAIT: u32 = 23;
const SUBMIT: u32 = 24;

const PROTOCOL: u32 = 3;
const TIMELINES_PARAMETER: u32 = 1;
const TIMELINES: u32 = 64;
const WAIT_ANY: u32 = 1;
/// Words that describe a batch of a submission.
const BATCH: usize = 6;

/// A sync and a value for it.
type Point = (u32, u64);

/// A client.
pub(super) struct Client {
    context: u32,
    stream: Stream,
    has_context: bool,
    resources: HashSet<u32>,
    syncs: HashMap<u32, u64>,
    last_sync: u32,
    /// What fences set.
    submitted: Vec<(Fence, Vec<Point>)>,
    waits: Vec<Wait>,
}

struct Wait {
    any: bool,
    points: Vec<Point>,
    done: OwnedFd,
}

impl Client {
    pub(super) fn new(context: u32, socket: UnixStream) -> Self {
        Self {
            context,
            stream: Stream::new(socket),
            has_context: false,
            resources: HashSet::new(),
            syncs: HashMap::new(),
            last_sync: 0,
            submitted: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Serves one command; an error ends the connection.
    pub(super) fn serve(&mut self, device: &mut Device) -> io::Result<()> {
        let (kind, words) = self.stream.command()?;
        let mut words = Words(&words);
        match kind {
            CREATE_RENDERER => {}
            PING => self.stream.answer(PING, &[])?,
            BUSY_WAIT => self.stream.answer(BUSY_WAIT, &[0])?,
            VERSION => {
                let version = words.next()?.min(PROTOCOL);
                self.stream.answer(VERSION, &[version])?;
            }
            GET_PARAMETER => {
                let answer = match words.next()? {
                    TIMELINES_PARAMETER => [1, TIMELINES],
                    _ => [0, 0],
                };
                self.stream.answer(GET_PARAMETER, &answer)?;
            }
            GET_CAPSET => self.capset(device, words.next()?, words.next()?)?,
            CONTEXT_INIT => {
                device.create_context(self.context, words.next()?)?;
                self.has_context = true;
            }
            CREATE_BLOB => {
                let (kind, flags) = (words.next()?, words.next()?);
                let (size, blob) = (words.long()?, words.long()?);
                let (resource, memory) =
                    device.create_blob(self.context, kind, flags, size, blob)?;
                self.resources.insert(resource);
                self.stream.answer(CREATE_BLOB, &[resource])?;
                self.stream.descriptor(memory.as_fd())?;
            }
            UNREF => {
                let resource = words.next()?;
                if self.resources.remove(&resource) {
                    device.unref(resource)?;
                }
            }
            SYNC_CREATE => {
                self.last_sync += 1;
                self.syncs.insert(self.last_sync, words.long()?);
                self.stream.answer(SYNC_CREATE, &[self.last_sync])?;
            }
            SYNC_UNREF => {
                self.syncs.remove(&words.next()?);
            }
            SYNC_READ => {
                let value = self.syncs.get(&words.next()?).copied().unwrap_or(0);
                self.stream.answer(SYNC_READ, &halves(value))?;
            }
            SYNC_WRITE => {
                let point = (words.next()?, words.long()?);
                self.set(point);
                self.wake()?;
            }
            SYNC_WAIT => self.wait(words)?,
            SUBMIT => self.submit(device, words)?,
            other => return Err(io::Error::other(format!("command {other} is not known"))),
        }
        Ok(())
    }

    /// A fence is done, with those before it on its ring.
    pub(super) fn signal(&mut self, fence: Fence) {
        if fence.context != self.context {
            return;
        }
        let done = self
            .submitted
            .extract_if(.., |(submitted, _)| {
                submitted.ring == fence.ring && submitted.id <= fence.id
            })
            .flat_map(|(_, points)| points)
            .collect::<Vec<_>>();
        done.into_iter().for_each(|point| self.set(point));
        if let Err(error) = self.wake() {
            eprintln!("vtest: wake client {}: {error}", self.context);
        }
    }

    /// The client has gone.
    pub(super) fn end(&mut self, device: &mut Device) {
        let resources = self.resources.drain();
        let mut results: Vec<io::Result<()>> =
            resources.map(|resource| device.unref(resource)).collect();
        if self.has_context {
            results.push(device.destroy_context(self.context));
        }
        for error in results.into_iter().filter_map(Result::err) {
            eprintln!("vtest: cleaning up for client {}: {error}", self.context);
        }
    }

    fn capset(&mut self, device: &mut Device, id: u32, version: u32) -> io::Result<()> {
        let mut answer = vec![0];
        if let Ok(contents) = device.capset(id, version) {
            let (contents, _) = contents.as_chunks();
            answer = vec![1];
            answer.extend(contents.iter().copied().map(u32::from_le_bytes));
        }
        self.stream.answer(GET_CAPSET, &answer)
    }

    fn submit(&mut self, device: &mut Device, words: Words<'_>) -> io::Result<()> {
        let mut batches = words;
        for _ in 0..batches.next()? {
            let mut batch = Words(batches.part(0, BATCH)?);
            batches = Words(batches.part(BATCH, batches.0.len() - BATCH)?);
            let _flags = batch.next()?;
            let (at, length) = (batch.size()?, batch.size()?);
            let (syncs_at, count) = (batch.size()?, batch.size()?);
            let ring = u8::try_from(batch.next()?).map_err(io::Error::other)?;
            let mut points = Vec::new();
            let mut syncs = Words(words.part(syncs_at, count.saturating_mul(3))?);
            for _ in 0..count {
                points.push((syncs.next()?, syncs.long()?));
            }
            let commands = self::words(words.part(at, length)?);
            match device.submit(self.context, ring, &commands)? {
                Some(fence) => self.submitted.push((fence, points)),
                None => points.into_iter().for_each(|point| self.set(point)),
            }
        }
        self.wake()
    }

    fn wait(&mut self, mut words: Words<'_>) -> io::Result<()> {
        let any = words.next()? & WAIT_ANY != 0;
        // The client watches the clock itself.
        let _timeout = words.next()?;
        let mut points = Vec::new();
        while !words.0.is_empty() {
            points.push((words.next()?, words.long()?));
        }
        let done = eventfd(0, EventfdFlags::CLOEXEC)?;
        self.stream.answer(SYNC_WAIT, &[])?;
        self.stream.descriptor(done.as_fd())?;
        self.waits.push(Wait { any, points, done });
        self.wake()
    }

    fn set(&mut self, (sync, value): Point) {
        if let Some(current) = self.syncs.get_mut(&sync) {
            *current = value;
        }
    }

    /// Ends the waits that have what they wait for.
    fn wake(&mut self) -> io::Result<()> {
        let syncs = &self.syncs;
        let reached = |(sync, value): &Point| syncs.get(sync).is_none_or(|now| now >= value);
        let done: Vec<Wait> = self
            .waits
            .extract_if(.., |wait| match wait.any {
                true => wait.points.iter().any(reached),
                false => wait.points.iter().all(reached),
            })
            .collect();
        for wait in done {
            rustix::io::write(&wait.done, &1u64.to_ne_bytes())?;
        }
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The words of a command that are not read yet.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [u32]);

impl<'a> Words<'a> {
    fn next(&mut self) -> io::Result<u32> {
        let (first, rest) = self.0.split_first().ok_or_else(short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn long(&mut self) -> io::Result<u64> {
        let (low, high) = (self.next()?, self.next()?);
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    fn size(&mut self) -> io::Result<usize> {
        usize::try_from(self.next()?).map_err(io::Error::other)
    }

    fn part(&self, start: usize, length: usize) -> io::Result<&'a [u32]> {
        let end = start.checked_add(length).ok_or_else(short)?;
        self.0.get(start..end).ok_or_else(short)
    }
}

fn short() -> io::Error {
    io::Error::other("a command is too short")
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}
