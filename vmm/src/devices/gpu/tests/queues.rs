//! The device at its queues: answers, fences that are signalled later, resets, broken rings.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::virgl::SignalSink;
use super::super::{Fence, Gpu};
use super::commands::{LIMIT, MEMORY, NO_CONTEXT, OK, WINDOW, full, window, words};
use super::renderer::{Fake, Shared};
use crate::devices::gpu::renderer::Capset;
use crate::memory::GuestMemory;
use crate::virtio::{Activation, ActiveQueue, Interrupt, VirtioDevice};

const SIZE: u16 = 64;
const TABLE: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
/// A page for each command, half of it for the answer.
const PAGES: u64 = 0x10_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

struct Driver {
    gpu: Gpu,
    held: Shared,
    signal: SignalSink,
    memory: GuestMemory,
    doorbell: EventFd,
    line: Arc<EventFd>,
    available: u16,
    seen: u16,
}

impl Driver {
    fn new() -> Self {
        Self::on(Fake::new)
    }

    fn on(fake: fn(Shared) -> Fake) -> Self {
        let held = Shared::default();
        let (sender, sink): (_, Receiver<SignalSink>) = channel();
        let renderer = held.clone();
        let gpu = Gpu::with(window(), LIMIT, move |signal| {
            sender.send(signal).unwrap();
            Ok(Box::new(fake(renderer)))
        });
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]);
        let mut driver = Self {
            gpu: gpu.unwrap(),
            held,
            signal: sink.recv().unwrap(),
            memory: Arc::new(memory.unwrap()),
            doorbell: EventFd::new(EFD_NONBLOCK).unwrap(),
            line: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
            available: 0,
            seen: 0,
        };
        driver.activate();
        driver
    }

    fn activate(&mut self) {
        (self.available, self.seen) = (0, 0);
        for ring in [AVAILABLE, USED] {
            self.memory.write_obj(0u32, GuestAddress(ring)).unwrap();
        }
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_size(SIZE);
        for (set, address) in [
            (
                Queue::try_set_desc_table_address as fn(&mut _, _) -> _,
                TABLE,
            ),
            (Queue::try_set_avail_ring_address, AVAILABLE),
            (Queue::try_set_used_ring_address, USED),
        ] {
            set(&mut queue, GuestAddress(address)).unwrap();
        }
        queue.set_ready(true);
        let control = ActiveQueue {
            queue,
            doorbell: self.doorbell.try_clone().unwrap(),
        };
        let activation = Activation {
            memory: self.memory.clone(),
            queues: vec![Some(control), None],
            interrupt: Interrupt::new(Arc::default(), Arc::clone(&self.line)),
            features: 0,
        };
        self.gpu.activate(activation).unwrap();
    }

    fn put<T: vm_memory::ByteValued>(&self, value: T, address: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    /// Offers a command with room for an answer of `room` bytes; returns its head.
    fn offer(&mut self, command: &[u8], room: u32) -> u16 {
        let head = self.available * 2 % SIZE;
        let page = PAGES + u64::from(head) * 0x1000;
        self.memory
            .write_slice(command, GuestAddress(page))
            .unwrap();
        let length = u32::try_from(command.len()).unwrap();
        for (index, address, length, flags) in [
            (head, page, length, NEXT),
            (head + 1, page + 0x800, room, WRITE),
        ] {
            let at = TABLE + 16 * u64::from(index);
            self.put(address, at);
            self.put(length, at + 8);
            self.put(flags, at + 12);
            self.put(index + 1, at + 14);
        }
        self.put(head, AVAILABLE + 4 + 2 * u64::from(self.available % SIZE));
        self.advance(1);
        head
    }

    fn advance(&mut self, by: u16) {
        self.available = self.available.wrapping_add(by);
        self.put(self.available, AVAILABLE + 2);
        self.doorbell.write(1).unwrap();
    }

    /// The next used chain within a while: its head and the answer.
    fn used(&mut self, patience: Duration) -> Option<(u16, Vec<u8>)> {
        let until = Instant::now() + patience;
        loop {
            let index: u16 = self.memory.read_obj(GuestAddress(USED + 2)).unwrap();
            if index != self.seen {
                break;
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let at = USED + 4 + 8 * u64::from(self.seen % SIZE);
        self.seen = self.seen.wrapping_add(1);
        let head: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
        let length: u32 = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        let mut answer = vec![0; usize::try_from(length).unwrap()];
        let page = PAGES + u64::from(head) * 0x1000 + 0x800;
        self.memory
            .read_slice(&mut answer, GuestAddress(page))
            .unwrap();
        Some((u16::try_from(head).unwrap(), answer))
    }

    fn expect(&mut self, head: u16, kind: u32) {
        let (used, answer) = self.used(Duration::from_secs(10)).expect("an answer");
        assert_eq!(used, head);
        assert_eq!(answer[..4], kind.to_le_bytes());
    }

    fn expect_nothing(&mut self) {
        assert_eq!(self.used(Duration::from_millis(50)), None);
    }

    fn create_context(&mut self, context: u32) {
        self.create_context_of(context, Capset::VENUS);
    }

    fn create_context_of(&mut self, context: u32, init: u32) {
        let mut body = words(&[0, init]);
        body.resize(72, 0);
        let head = self.offer(&full(0x200, 0, 0, context, 0, &body), 24);
        self.expect(head, OK);
    }

    /// Submits to a ring with a fence; returns the head and the renderer's fence.
    fn submit(&mut self, context: u32, ring: u8, number: u64) -> (u16, Fence) {
        self.offer_fenced(&full(0x207, 3, number, context, ring, &words(&[4, 0, 1])))
    }

    /// Offers what has a fence; returns the head and the renderer's fence.
    fn offer_fenced(&mut self, command: &[u8]) -> (u16, Fence) {
        let before = self.held.lock().fences.len();
        let head = self.offer(command, 24);
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(fence) = self.held.lock().fences.get(before) {
                return (head, *fence);
            }
            assert!(Instant::now() < until, "no fence is made");
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

#[test]
fn the_device_says_what_it_is() {
    let driver = Driver::new();
    let mut space = [9; 24];
    driver.gpu.read_config(0, &mut space);
    assert_eq!(space[..16], words(&[0, 0, 0, 1]));
    assert_eq!(space[16..], [0; 8]);
    driver.gpu.read_config(u64::MAX, &mut space);
    assert_eq!(space, [0; 24]);
    assert_eq!(driver.gpu.shared_memory(1), Some((1 << 33, WINDOW)));
    assert_eq!(driver.gpu.shared_memory(0), None);
}

#[test]
fn buffers_return_when_their_fences_are_signalled() {
    let mut driver = Driver::new();
    driver.create_context(1);
    let _ = driver.line.read();
    let (first, fence) = driver.submit(1, 2, 10);
    let (second, later) = driver.submit(1, 2, 11);
    let (other, elsewhere) = driver.submit(1, 3, 12);
    driver.expect_nothing();
    assert!(
        driver.line.read().is_err(),
        "no interrupt for what is not done"
    );
    // What has no ring does not wait for those that have.
    let plain = driver.offer(&full(0x100, 1, 13, 0, 0, &[]), 408);
    driver.expect(plain, 0x1101);
    (driver.signal)(elsewhere);
    driver.expect(other, OK);
    (driver.signal)(later);
    driver.expect(first, OK);
    driver.expect(second, OK);
    (driver.signal)(fence);
    driver.expect_nothing();
    assert!(driver.line.read().is_ok());
}

#[test]
fn opengl_has_the_devices_own_order() {
    let mut driver = Driver::on(Fake::with_opengl);
    let mut space = [9; 16];
    driver.gpu.read_config(0, &mut space);
    assert_eq!(space[..], words(&[0, 0, 0, 3]));
    driver.create_context_of(1, 0);
    driver.create_context_of(2, Capset::VIRGL2);
    driver.create_context(3);
    let fenced = |context| full(0x207, 1, 7, context, 0, &words(&[4, 0, 1]));
    let (first, _) = driver.offer_fenced(&fenced(1));
    let (second, later) = driver.offer_fenced(&fenced(2));
    let (vulkan, own) = driver.submit(3, 0, 8);
    assert_eq!((later.context, later.ring, own.context), (0, 0, 3));
    driver.expect_nothing();
    // The end of a context does not end the order.
    let destroy = driver.offer(&full(0x201, 0, 0, 1, 0, &[]), 24);
    driver.expect(destroy, OK);
    (driver.signal)(own);
    driver.expect(vulkan, OK);
    (driver.signal)(later);
    driver.expect(first, OK);
    driver.expect(second, OK);
    // Vulkan's own commands without a ring are done when they return.
    let plain = driver.offer(&fenced(3), 24);
    driver.expect(plain, OK);
}

#[test]
fn a_destroyed_context_returns_what_waits() {
    let mut driver = Driver::new();
    driver.create_context(1);
    let (waits, fence) = driver.submit(1, 0, 1);
    let destroy = driver.offer(&full(0x201, 0, 0, 1, 0, &[]), 24);
    driver.expect(destroy, OK);
    driver.expect(waits, OK);
    // A late signal concerns nobody, also when the number is another context's now.
    driver.create_context(1);
    let (again, _) = driver.submit(1, 0, 1);
    (driver.signal)(fence);
    driver.expect_nothing();
    let destroy = driver.offer(&full(0x201, 0, 0, 1, 0, &[]), 24);
    driver.expect(destroy, OK);
    driver.expect(again, OK);
}

#[test]
fn a_reset_forgets_everything() {
    let mut driver = Driver::new();
    driver.create_context(1);
    let (_, fence) = driver.submit(1, 0, 1);
    driver.gpu.reset();
    assert!(driver.held.is_empty());
    driver.gpu.reset();
    (driver.signal)(fence);
    driver.activate();
    driver.expect_nothing();
    let head = driver.offer(&full(0x201, 0, 0, 1, 0, &[]), 24);
    driver.expect(head, NO_CONTEXT);
    driver.create_context(1);
}

#[test]
fn answers_have_the_room_that_there_is() {
    let mut driver = Driver::new();
    let command = full(0x100, 0, 0, 0, 0, &[]);
    for room in [408, 24, 5, 0] {
        let head = driver.offer(&command, room);
        let (used, answer) = driver.used(Duration::from_secs(10)).expect("an answer");
        assert_eq!(used, head);
        assert_eq!(answer.len(), usize::try_from(room).unwrap());
    }
    let head = driver.offer(&[1, 2, 3], 24);
    assert_eq!(driver.used(Duration::from_secs(10)), Some((head, vec![])));
}

#[test]
fn no_more_buffers_wait_than_the_queue_has() {
    let mut driver = Driver::new();
    driver.create_context(1);
    let command = full(0x207, 3, 1, 1, 0, &words(&[4, 0, 1]));
    for _ in 0..SIZE {
        driver.offer(&command, 24);
    }
    driver.expect_nothing();
    // A guest that reuses buffers that it has not got back.
    for _ in 0..3 {
        let head = driver.offer(&command, 24);
        driver.expect(head, OK);
    }
}

#[test]
fn a_broken_ring_is_left_alone_until_the_reset() {
    let mut driver = Driver::new();
    driver.create_context(1);
    driver.advance(SIZE + 1);
    driver.expect_nothing();
    driver.advance(1);
    driver.expect_nothing();
    driver.gpu.reset();
    assert!(driver.held.is_empty());
    driver.activate();
    driver.create_context(1);
}
