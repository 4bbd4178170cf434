//! The guest: sends packets and looks at what comes.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use zerocopy::{FromBytes, IntoBytes};

use super::super::packet::{HEADER_LENGTH, Header, Operation, Shutdown, TYPE_STREAM};
use super::super::{FEATURE_EVENT_IDX, Vsock, VsockConfig, VsockHandle};
use crate::devices::driver_queue::{DriverQueue, NEXT, WRITE};
use crate::memory::GuestMemory;
use crate::virtio::{Activation, Interrupt, VirtioDevice};

pub(super) const MEMORY: usize = 16 << 20;
pub(super) const CID: u32 = 3;
pub(super) const STREAM_PORT: u32 = 1025;
pub(super) const BUFFER: u32 = 64 << 10;
const SIZE: u16 = 128;
const RECEIVE: u64 = 0x1_0000;
const TRANSMIT: u64 = 0x2_0000;
const PAGES: u64 = 0x10_0000;
const PACKETS: u64 = 0x20_0000;
const PACKET: u64 = 0x1_1000;

pub(super) struct Guest {
    pub(super) memory: GuestMemory,
    pub(super) device: Vsock,
    pub(super) handle: VsockHandle,
    pub(super) receive: DriverQueue,
    pub(super) transmit: DriverQueue,
    interrupt: Arc<EventFd>,
    free: Vec<u16>,
    seen: VecDeque<(Header, Vec<u8>)>,
}

impl Guest {
    /// A guest that runs and has offered all its receive buffers.
    pub(super) fn new() -> Self {
        let mut guest = Self::starved();
        for slot in 0..SIZE {
            guest.offer(slot);
        }
        guest
    }

    /// A guest that has offered no receive buffer.
    pub(super) fn starved() -> Self {
        let config = VsockConfig {
            guest_cid: CID,
            stream_port: STREAM_PORT,
        };
        let (device, handle) = Vsock::new(config).unwrap();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let memory = Arc::new(memory);
        let mut guest = Self {
            device,
            handle,
            receive: DriverQueue::new(&memory, RECEIVE, SIZE),
            transmit: DriverQueue::new(&memory, TRANSMIT, SIZE),
            memory,
            interrupt: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
            free: (0..SIZE / 2).map(|slot| slot * 2).collect(),
            seen: VecDeque::new(),
        };
        guest.activate();
        guest
    }

    pub(super) fn activate(&mut self) {
        let activation = Activation {
            memory: self.memory.clone(),
            queues: vec![
                Some(self.receive.active()),
                Some(self.transmit.active()),
                None,
            ],
            interrupt: Interrupt::new(Arc::default(), Arc::clone(&self.interrupt)),
            features: FEATURE_EVENT_IDX,
        };
        self.device.activate(activation).unwrap();
    }

    /// Offers a page for packets to the guest.
    pub(super) fn offer(&mut self, slot: u16) {
        let page = PAGES + u64::from(slot) * 4096;
        self.receive.descriptor(slot, page, 4096, WRITE, 0);
        self.receive.publish(slot);
    }

    /// Sends a packet in two descriptors, as Linux does.
    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        let head = self.slot();
        let at = PACKETS + u64::from(head / 2) * PACKET;
        let length = u32::try_from(data.len()).unwrap();
        self.write(at, header.as_bytes());
        self.write(at + 0x1000, data);
        let flags = if data.is_empty() { 0 } else { NEXT };
        self.transmit.descriptor(head, at, 44, flags, head + 1);
        self.transmit
            .descriptor(head + 1, at + 0x1000, length, 0, 0);
        self.transmit.publish(head);
    }

    /// Two free descriptors of the transmit queue.
    pub(super) fn slot(&mut self) -> u16 {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            while let Some((head, length)) = self.transmit.used() {
                assert_eq!(length, 0);
                self.free.push(head);
            }
            if let Some(head) = self.free.pop() {
                return head;
            }
            assert!(Instant::now() < until, "no packet is taken");
            self.gather();
            self.wait(Duration::from_millis(100));
        }
    }

    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .unwrap();
    }

    fn wait(&self, timeout: Duration) {
        // SAFETY: the eventfd is open as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(self.interrupt.as_raw_fd()) };
        let timeout = Timespec::try_from(timeout).unwrap();
        rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
        let _ = self.interrupt.read();
    }

    fn gather(&mut self) {
        while let Some((slot, length)) = self.receive.used() {
            let page = GuestAddress(PAGES + u64::from(slot) * 4096);
            let mut bytes = vec![0; length as usize];
            self.memory.read_slice(&mut bytes, page).unwrap();
            let header = Header::read_from_bytes(&bytes[..HEADER_LENGTH]).unwrap();
            assert_eq!(header.len.get() as usize, bytes.len() - HEADER_LENGTH);
            self.seen
                .push_back((header, bytes.split_off(HEADER_LENGTH)));
            self.offer(slot);
        }
    }

    /// The next packet for the guest, within `timeout`.
    pub(super) fn next_within(&mut self, timeout: Duration) -> Option<(Header, Vec<u8>)> {
        let until = Instant::now() + timeout;
        loop {
            self.gather();
            if let Some(packet) = self.seen.pop_front() {
                return Some(packet);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.wait(left);
        }
    }

    /// The next packet for the guest.
    pub(super) fn next(&mut self) -> (Header, Vec<u8>) {
        self.next_within(Duration::from_secs(10))
            .expect("a packet for the guest")
    }

    /// The next packet, which has this operation.
    pub(super) fn expect(&mut self, operation: Operation) -> (Header, Vec<u8>) {
        let (header, data) = self.next();
        assert_eq!(
            Operation::from_number(header.op.get()),
            Some(operation),
            "{header:?}"
        );
        (header, data)
    }

    /// Nothing comes for a while.
    pub(super) fn expect_nothing(&mut self) {
        let packet = self.next_within(Duration::from_millis(100));
        assert!(packet.is_none(), "{packet:?}");
    }

    /// Opens a connection from `from` to `to`.
    pub(super) fn connect(&mut self, from: u32, to: u32) {
        self.send(header(Operation::Request, from, to), &[]);
        let (response, _) = self.expect(Operation::Response);
        assert_eq!(response.src_cid.get(), 2);
        assert_eq!(response.dst_cid.get(), u64::from(CID));
        assert_eq!(response.src_port.get(), to);
        assert_eq!(response.dst_port.get(), from);
        assert_eq!(response.buf_alloc.get(), 256 << 10);
    }

    /// Sends `data` on a connection.
    pub(super) fn data(&mut self, from: u32, to: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap();
        let header = Header {
            len: length.into(),
            ..header(Operation::Data, from, to)
        };
        self.send(header, data);
    }

    /// Gives up directions of a connection.
    pub(super) fn shutdown(&mut self, from: u32, to: u32, shutdown: Shutdown) {
        let header = Header {
            flags: shutdown.flags().into(),
            ..header(Operation::Shutdown, from, to)
        };
        self.send(header, &[]);
    }
}

/// A header of the guest's that has taken nothing yet.
pub(super) fn header(operation: Operation, from: u32, to: u32) -> Header {
    Header {
        src_cid: u64::from(CID).into(),
        dst_cid: 2.into(),
        src_port: from.into(),
        dst_port: to.into(),
        kind: TYPE_STREAM.into(),
        op: operation.into(),
        buf_alloc: BUFFER.into(),
        ..Header::default()
    }
}

pub(super) const SEND: Shutdown = Shutdown {
    receive: false,
    send: true,
};

pub(super) const RECEIVE_ONLY: Shutdown = Shutdown {
    receive: true,
    send: false,
};
