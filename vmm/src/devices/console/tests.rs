//! The console under a driver's and under a hostile guest's buffers.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_WRITE;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::event_loop::EventLoop;
use crate::virtio::{ActiveQueue, Interrupt};

/// Gives the console a transmit queue with these descriptors, each a chain of its own, rings,
/// and waits until the device has used `used` of them.
fn transmit(descriptors: &[Descriptor], used: u16) -> Vec<u8> {
    let memory =
        Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).expect("memory"));
    memory
        .write_slice(b"hello, host\n", GuestAddress(0x8_0000))
        .expect("inside");
    let driver = MockSplitQueue::new(&*memory, 16);
    let raw: Vec<RawDescriptor> = descriptors
        .iter()
        .copied()
        .map(RawDescriptor::from)
        .collect();
    driver.add_desc_chains(&raw, 0).expect("chains");
    let doorbell = EventFd::new(EFD_NONBLOCK).expect("eventfd");
    let ring = doorbell.try_clone().expect("dup");
    let line = Arc::new(EventFd::new(EFD_NONBLOCK).expect("eventfd"));
    let event_loop = EventLoop::start().expect("loop");
    let log = ConsoleLog::default();
    let mut console = Console::new(log.clone(), event_loop.handle());
    let queue = driver.create_queue().expect("queue");
    console
        .activate(Activation {
            memory: Arc::clone(&memory),
            queues: vec![None, Some(ActiveQueue { queue, doorbell })],
            interrupt: Interrupt::new(Arc::new(AtomicU32::new(0)), line),
            features: 0,
        })
        .expect("activate");
    ring.write(1).expect("ring");
    let deadline = Instant::now() + Duration::from_secs(5);
    while driver.used().idx().load() < used {
        assert!(
            Instant::now() < deadline,
            "the device did not use the buffers"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    console.reset();
    log.contents()
}

#[test]
fn what_is_transmitted_is_logged() {
    let text = Descriptor::new(0x8_0000, 12, 0, 0);
    assert_eq!(transmit(&[text, text], 2), b"hello, host\nhello, host\n");
}

#[test]
fn buffers_that_are_none_say_nothing() {
    let writable = Descriptor::new(
        0x8_0000,
        12,
        u16::try_from(VRING_DESC_F_WRITE).expect("flag"),
        0,
    );
    let empty = Descriptor::new(0x8_0000, 0, 0, 0);
    let outside = Descriptor::new(0xffff_ffff_ffff_f000, 0x2000, 0, 0);
    assert_eq!(transmit(&[writable, empty, outside], 3), b"");
}

#[test]
fn an_endless_buffer_is_cut() {
    let endless = Descriptor::new(0x8_0000, u32::MAX, 0, 0);
    assert_eq!(transmit(&[endless], 1).len(), log::CAPACITY);
}

#[test]
fn without_a_transmit_queue_there_is_no_console() {
    let event_loop = EventLoop::start().expect("loop");
    let mut console = Console::new(ConsoleLog::default(), event_loop.handle());
    let line = Arc::new(EventFd::new(EFD_NONBLOCK).expect("eventfd"));
    let error = console.activate(Activation {
        memory: Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]).expect("memory")),
        queues: vec![None],
        interrupt: Interrupt::new(Arc::new(AtomicU32::new(0)), line),
        features: 0,
    });
    assert!(matches!(
        error,
        Err(ActivateError::QueueMissing {
            queue: TRANSMIT,
            ..
        })
    ));
}
