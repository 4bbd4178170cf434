//! The guest, and the host's end of its link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, VolatileSlice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::mover::Mover;
use super::super::slot::Offloaded;
use super::super::wire::Wire;
use super::super::{Net, NicSlot, features};
use crate::devices::driver_queue::{DriverQueue, NEXT, WRITE};
use crate::event_loop::EventLoop;
use crate::memory::GuestMemory;
use crate::virtio::{Activation, ActiveQueue, Interrupt, VirtioDevice};

pub(super) const MEMORY: usize = 16 << 20;
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const MTU: u16 = 1500;
pub(super) const SIZE: u16 = 256;
const RECEIVE: u64 = 0x1_0000;
const TRANSMIT: u64 = 0x2_0000;
const CONTROL: u64 = 0x5_0000;
const OTHERS: u64 = 0x6_0000;
const COMMAND: u64 = 0x70_0000;
const BUFFERS: u64 = 0x10_0000;
pub(super) const FRAMES: u64 = 0x80_0000;

/// A datagram socket in the place of a tap: each datagram is a header and a frame.
#[derive(Debug)]
struct Pair {
    socket: OwnedFd,
    accepted: Arc<Mutex<Option<u64>>>,
    enabled: Arc<AtomicBool>,
}

impl Wire for Pair {
    fn read(&self, target: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut bytes = vec![0; 1 << 17];
        let (length, _) = recv(&self.socket, bytes.as_mut_slice(), RecvFlags::DONTWAIT)?;
        let mut rest = &bytes[..length];
        for slice in target {
            let (now, later) = rest.split_at(slice.len().min(rest.len()));
            slice.copy_from(now);
            rest = later;
        }
        Ok(length)
    }

    fn write(&self, header: &[u8], frame: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut bytes = header.to_vec();
        for slice in frame {
            let at = bytes.len();
            bytes.resize(at + slice.len(), 0);
            slice.copy_to(&mut bytes[at..]);
        }
        Ok(send(&self.socket, &bytes, SendFlags::DONTWAIT)?)
    }

    fn enable(&self, enabled: bool) -> io::Result<()> {
        let before = self.enabled.swap(enabled, Ordering::SeqCst);
        assert_ne!(before, enabled, "as the kernel insists");
        Ok(())
    }

    fn accept(&self, features: u64) -> io::Result<()> {
        *self.accepted.lock().unwrap() = Some(features);
        Ok(())
    }
}

impl AsFd for Pair {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A pair of queues beside the first.
pub(super) struct Other {
    pub(super) host: OwnedFd,
    pub(super) receive: DriverQueue,
    pub(super) transmit: DriverQueue,
    pub(super) enabled: Arc<AtomicBool>,
}

pub(super) struct Guest {
    pub(super) memory: GuestMemory,
    pub(super) device: Net,
    pub(super) slot: NicSlot,
    pub(super) host: OwnedFd,
    pub(super) receive: DriverQueue,
    pub(super) transmit: DriverQueue,
    pub(super) others: Vec<Other>,
    pub(super) control: DriverQueue,
    pub(super) accepted: Arc<Mutex<Option<u64>>>,
    interrupt: Arc<EventFd>,
    features: u64,
    _event_loop: EventLoop,
}

impl Guest {
    /// A guest whose driver accepts everything but `without`, and has offered no buffer.
    pub(super) fn new(without: &[u32]) -> Self {
        Self::with_pairs(1, without)
    }

    /// The same with so many pairs of queues.
    pub(super) fn with_pairs(pairs: u8, without: &[u32]) -> Self {
        let accepted = Arc::<Mutex<Option<u64>>>::default();
        let event_loop = EventLoop::start().unwrap();
        let device = Net::new(pairs, event_loop.handle());
        let slot = device.slot(7);
        let mut hosts = plug(&device, &accepted).into_iter();
        let (host, _) = hosts.next().unwrap();
        let features = features(device.shared.lock().nic.as_ref().unwrap());
        let features = without
            .iter()
            .fold(features, |features, bit| features & !(1 << bit));
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let memory = Arc::new(memory);
        let others = (OTHERS..).step_by(0x1_0000).zip(hosts);
        let others = others.map(|(base, (host, enabled))| Other {
            host,
            receive: DriverQueue::new(&memory, base, SIZE),
            transmit: DriverQueue::new(&memory, base + 0x8000, SIZE),
            enabled,
        });
        let mut guest = Self {
            others: others.collect(),
            control: DriverQueue::new(&memory, CONTROL, 16),
            receive: DriverQueue::new(&memory, RECEIVE, SIZE),
            transmit: DriverQueue::new(&memory, TRANSMIT, SIZE),
            device,
            slot,
            host,
            accepted,
            memory,
            interrupt: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
            features,
            _event_loop: event_loop,
        };
        guest.activate();
        guest
    }

    pub(super) fn activate(&mut self) {
        let mut queues = vec![Some(self.receive.active()), Some(self.transmit.active())];
        for other in &self.others {
            queues.extend([Some(other.receive.active()), Some(other.transmit.active())]);
        }
        queues.push(Some(self.control.active()));
        self.activate_with(queues);
    }

    pub(super) fn activate_with(&mut self, queues: Vec<Option<ActiveQueue>>) {
        let activation = Activation {
            memory: self.memory.clone(),
            queues,
            interrupt: Interrupt::new(Arc::default(), Arc::clone(&self.interrupt)),
            features: self.features,
        };
        self.device.activate(activation).unwrap();
    }

    /// Unplugs the NIC and plugs in another one, whose driver starts anew.
    pub(super) fn exchange(&mut self) {
        self.device.reset();
        self.slot.unplug();
        self.host = plug(&self.device, &self.accepted).remove(0).0;
        let memory = self.memory.clone();
        self.receive = DriverQueue::new(&memory, 0x3_0000, SIZE);
        self.transmit = DriverQueue::new(&memory, 0x4_0000, SIZE);
        self.activate();
    }

    /// Offers a buffer of `length` bytes for frames.
    pub(super) fn offer(&mut self, slot: u16, length: u32) {
        let address = BUFFERS + u64::from(slot) * 0x2000;
        self.receive.descriptor(slot, address, length, WRITE, 0);
        self.receive.publish(slot);
    }

    /// What is in the first `length` bytes of a buffer.
    pub(super) fn buffer(&self, slot: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let address = BUFFERS + u64::from(slot) * 0x2000;
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        bytes
    }

    /// Sends a header and a frame, in two descriptors.
    pub(super) fn send(&mut self, header: &[u8], frame: &[u8]) {
        self.memory
            .write_slice(header, GuestAddress(FRAMES))
            .unwrap();
        self.memory
            .write_slice(frame, GuestAddress(FRAMES + 0x100))
            .unwrap();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        self.chain(&[
            (FRAMES, length(header), 0),
            (FRAMES + 0x100, length(frame), 0),
        ]);
        self.sent();
    }

    /// Sends one chain of these descriptors: address, length, flags.
    pub(super) fn chain(&mut self, descriptors: &[(u64, u32, u16)]) {
        let last = descriptors.len() - 1;
        for (index, (address, length, flags)) in (0..).zip(descriptors) {
            let next = match usize::from(index) == last {
                true => 0,
                false => NEXT,
            };
            self.transmit
                .descriptor(index, *address, *length, *flags | next, index + 1);
        }
        self.transmit.publish(0);
    }

    /// Sends a control command of these bytes with room for an answer of `room` bytes; what was
    /// answered, if anything.
    pub(super) fn command(&mut self, bytes: &[u8], room: u32) -> Option<u8> {
        self.memory
            .write_slice(bytes, GuestAddress(COMMAND))
            .unwrap();
        let answer = COMMAND + 0x100;
        self.memory
            .write_obj(0xaa_u8, GuestAddress(answer))
            .unwrap();
        let length = u32::try_from(bytes.len()).unwrap();
        let next = if room > 0 { NEXT } else { 0 };
        self.control.descriptor(0, COMMAND, length, next, 1);
        self.control.descriptor(1, answer, room, WRITE, 0);
        self.control.publish(0);
        let (head, written) = wait(|| self.control.used());
        assert_eq!(head, 0);
        (written == 1).then(|| self.memory.read_obj(GuestAddress(answer)).unwrap())
    }

    /// Waits until the device has taken the chain that was sent.
    pub(super) fn sent(&mut self) {
        assert_eq!(wait(|| self.transmit.used()), (0, 0));
    }

    /// Waits for a filled buffer: its slot and length.
    pub(super) fn received(&mut self) -> (u16, u32) {
        wait(|| self.receive.used())
    }

    /// The host sends `bytes`: a header and a frame.
    pub(super) fn host_sends(&self, bytes: &[u8]) {
        assert_eq!(
            send(&self.host, bytes, SendFlags::empty()).unwrap(),
            bytes.len()
        );
    }

    /// The next header and frame that the guest has sent to the host.
    pub(super) fn host_receives(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 17];
        let length = wait(|| {
            let result = recv(&self.host, bytes.as_mut_slice(), RecvFlags::DONTWAIT);
            result.ok().map(|(length, _)| length)
        });
        bytes.truncate(length);
        bytes
    }

    /// The host has nothing to receive.
    pub(super) fn host_receives_nothing(&self) {
        let mut bytes = [0; 1];
        let result = recv(&self.host, bytes.as_mut_slice(), RecvFlags::DONTWAIT);
        assert_eq!(result.unwrap_err(), rustix::io::Errno::AGAIN);
    }

    /// Sleeps until the device interrupts; false when it does not.
    pub(super) fn interrupted(&self) -> bool {
        use std::os::fd::AsRawFd;
        // SAFETY: the eventfd is open as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(self.interrupt.as_raw_fd()) };
        let timeout = Timespec::try_from(Duration::from_secs(10)).unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
        self.interrupt.read().is_ok()
    }

    /// A frame still goes through, both ways.
    pub(super) fn works(&mut self) {
        let frame = [7; 60];
        self.send(&[0; 12], &frame);
        assert_eq!(self.host_receives()[12..], frame);
    }
}

/// Plugs a NIC into the empty slot of `device`; the host's end of each pair's link, and whether
/// frames come to it.
fn plug(device: &Net, accepted: &Arc<Mutex<Option<u64>>>) -> Vec<(OwnedFd, Arc<AtomicBool>)> {
    assert_eq!(device.device_type(), 0);
    assert_eq!(device.features(), 0);
    let flags = SocketFlags::CLOEXEC;
    let mut hosts = Vec::new();
    let mut movers = Vec::new();
    let counters = Arc::default();
    for number in 0..device.pairs {
        let (host, socket) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let enabled = Arc::new(AtomicBool::new(number == 0));
        let wire = Pair {
            socket,
            accepted: Arc::clone(accepted),
            enabled: Arc::clone(&enabled),
        };
        movers.push(Mover::thread(Box::new(wire), Arc::clone(&counters)).unwrap());
        hosts.push((host, enabled));
    }
    device
        .shared
        .plug(|| Ok(movers), MAC, MTU, Offloaded::WithUdp)
        .unwrap();
    hosts
}

/// Asks until there is an answer.
pub(super) fn wait<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "no answer");
        std::thread::yield_now();
    }
}
