//! The transport under a driver, and under a guest that is none.

use std::sync::{Arc, Mutex};

use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const FEATURE: u64 = 1 << 5;

/// What the device saw.
#[derive(Debug, Default)]
struct Seen {
    activations: Vec<Activation>,
    resets: usize,
    config: Vec<(u64, Vec<u8>)>,
}

#[derive(Debug)]
struct Mock {
    seen: Arc<Mutex<Seen>>,
    refuses: bool,
}

impl VirtioDevice for Mock {
    fn device_type(&self) -> u32 {
        42
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16, 256]
    }

    fn features(&self) -> u64 {
        FEATURE
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (byte, position) in data.iter_mut().zip(offset..) {
            *byte = u8::try_from(position).unwrap_or(0);
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.seen
            .lock()
            .expect("lock")
            .config
            .push((offset, data.to_vec()));
    }

    fn shared_memory(&self, id: u8) -> Option<(u64, u64)> {
        (id == 1).then_some((0x12_3456_7000, 0x2_0000_0000))
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if self.refuses {
            return Err(ActivateError::QueueMissing {
                device: "mock",
                queue: 1,
            });
        }
        self.seen.lock().expect("lock").activations.push(activation);
        Ok(())
    }

    fn reset(&mut self) {
        let mut seen = self.seen.lock().expect("lock");
        seen.resets += 1;
        seen.activations.clear();
    }
}

struct Guest {
    transport: Transport,
    seen: Arc<Mutex<Seen>>,
    line: EventFd,
    doorbells: Vec<EventFd>,
}

impl Guest {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(refuses: bool) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).expect("memory");
        let eventfd = || EventFd::new(EFD_NONBLOCK).expect("eventfd");
        let clone = |eventfd: &EventFd| eventfd.try_clone().expect("dup");
        let (line, doorbells) = (eventfd(), vec![eventfd(), eventfd()]);
        let transport = Transport::new(
            Box::new(Mock {
                seen: Arc::clone(&seen),
                refuses,
            }),
            Arc::new(memory),
            clone(&line),
            doorbells.iter().map(clone).collect(),
        );
        Self {
            transport,
            seen,
            line,
            doorbells,
        }
    }

    fn get(&self, offset: u64) -> u32 {
        let mut word = [0xaa; 4];
        self.transport.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn negotiate(&mut self, features: u64) {
        self.set(reg::STATUS, 1);
        self.set(reg::STATUS, 3);
        self.set(reg::DRIVER_FEATURES_SEL, 0);
        self.set(reg::DRIVER_FEATURES, half(features, Half::Low));
        self.set(reg::DRIVER_FEATURES_SEL, 1);
        self.set(reg::DRIVER_FEATURES, half(features, Half::High));
        self.set(reg::STATUS, 11);
    }

    fn set_up_queue(&mut self, index: u32, size: u32) {
        let base = index.wrapping_add(1).wrapping_mul(0x1_0000);
        self.set(reg::QUEUE_SEL, index);
        self.set(reg::QUEUE_NUM, size);
        self.set(reg::QUEUE_DESC_LOW, base);
        self.set(reg::QUEUE_DRIVER_LOW, base + 0x4000);
        self.set(reg::QUEUE_DEVICE_LOW, base + 0x8000);
        self.set(reg::QUEUE_READY, 1);
    }

    fn activations(&self) -> usize {
        self.seen.lock().expect("lock").activations.len()
    }
}

#[test]
fn a_driver_finds_and_starts_the_device() {
    let mut guest = Guest::new();
    assert_eq!(guest.get(reg::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(guest.get(reg::VERSION), 2);
    assert_eq!(guest.get(reg::DEVICE_ID), 42);
    guest.set(reg::DEVICE_FEATURES_SEL, 1);
    assert_eq!(guest.get(reg::DEVICE_FEATURES), 1);
    guest.set(reg::DEVICE_FEATURES_SEL, 2);
    assert_eq!(guest.get(reg::DEVICE_FEATURES), 0);
    guest.negotiate(VERSION_1 | FEATURE);
    assert_eq!(guest.get(reg::STATUS), 11);
    guest.set(reg::QUEUE_SEL, 1);
    assert_eq!(guest.get(reg::QUEUE_NUM_MAX), 256);
    guest.set_up_queue(1, 128);
    guest.set(reg::STATUS, 15);
    assert_eq!(guest.get(reg::STATUS), 15);

    let seen = guest.seen.lock().expect("lock");
    let [activation] = seen.activations.as_slice() else {
        panic!("activated once")
    };
    assert_eq!(activation.features, VERSION_1 | FEATURE);
    let [None, Some(active)] = activation.queues.as_slice() else {
        panic!("second queue only")
    };
    assert_eq!(active.queue.size(), 128);
    assert_eq!(active.queue.used_ring(), 0x2_8000);
    guest.doorbells[1].write(1).expect("ring");
    assert_eq!(active.doorbell.read().expect("rung"), 1);
}

#[test]
fn interrupts_set_the_status_until_acknowledged() {
    let mut guest = Guest::new();
    guest.negotiate(VERSION_1);
    guest.set(reg::STATUS, 15);
    let interrupt = guest.seen.lock().expect("lock").activations[0]
        .interrupt
        .clone();
    let generation = guest.get(reg::CONFIG_GENERATION);
    interrupt.signal_used();
    interrupt.signal_config();
    assert_eq!(guest.line.read().expect("pulsed"), 2);
    assert_eq!(guest.get(reg::INTERRUPT_STATUS), 3);
    assert_ne!(guest.get(reg::CONFIG_GENERATION), generation);
    guest.set(reg::INTERRUPT_ACK, 1);
    assert_eq!(guest.get(reg::INTERRUPT_STATUS), 2);
    guest.set(reg::STATUS, 0);
    assert_eq!(guest.get(reg::INTERRUPT_STATUS), 0);
}

#[test]
fn a_status_that_stands_is_not_acknowledged_away() {
    let mut guest = Guest::new();
    guest.negotiate(VERSION_1);
    guest.set(reg::STATUS, 15);
    let interrupt = guest.seen.lock().expect("lock").activations[0]
        .interrupt
        .clone();
    interrupt.stand();
    interrupt.line().write(1).expect("raise");
    assert_eq!(guest.line.read().expect("pulsed"), 1);
    guest.set(reg::INTERRUPT_ACK, 1);
    assert_eq!(guest.get(reg::INTERRUPT_STATUS), 1);
    guest.set(reg::STATUS, 0);
    assert_eq!(guest.get(reg::INTERRUPT_STATUS), 0);
}

#[test]
fn features_must_be_offered_and_modern() {
    for features in [0, FEATURE, VERSION_1 | 1 << 6, VERSION_1 | 1 << 63] {
        let mut guest = Guest::new();
        guest.negotiate(features);
        assert_eq!(guest.get(reg::STATUS), 3, "{features:#x} was agreed to");
        guest.set(reg::STATUS, 15);
        assert_eq!(guest.activations(), 0);
    }
}

#[test]
fn features_cannot_change_once_agreed() {
    let mut guest = Guest::new();
    guest.negotiate(VERSION_1);
    guest.set(reg::DRIVER_FEATURES_SEL, 0);
    guest.set(reg::DRIVER_FEATURES, u32::MAX);
    guest.set(reg::STATUS, 15);
    assert_eq!(
        guest.seen.lock().expect("lock").activations[0].features,
        VERSION_1
    );
}

/// CVE-2026-5747: the size of a queue in use was the guest's to change.
#[test]
fn a_queue_in_use_cannot_change() {
    let mut guest = Guest::new();
    guest.negotiate(VERSION_1);
    guest.set_up_queue(0, 16);
    guest.set(reg::STATUS, 15);
    guest.set_up_queue(0, 8);
    guest.set(reg::QUEUE_NUM, 0);
    guest.set(reg::QUEUE_DESC_LOW, 0xffff_fff0);
    guest.set(reg::QUEUE_READY, 0);
    assert_eq!(guest.get(reg::QUEUE_READY), 1);
    guest.set(reg::STATUS, 15);
    assert_eq!(
        guest.activations(),
        1,
        "writing the same status again starts nothing"
    );
    let seen = guest.seen.lock().expect("lock");
    let active = seen.activations[0].queues[0].as_ref().expect("queue 0");
    assert_eq!(
        (active.queue.size(), active.queue.desc_table()),
        (16, 0x1_0000)
    );
}

#[test]
fn a_ready_queue_is_frozen_until_it_is_not_ready() {
    let mut guest = Guest::new();
    guest.negotiate(VERSION_1);
    guest.set_up_queue(0, 16);
    guest.set(reg::QUEUE_NUM, 4);
    guest.set(reg::QUEUE_READY, 0);
    guest.set(reg::QUEUE_NUM, 8);
    guest.set(reg::QUEUE_READY, 1);
    guest.set(reg::STATUS, 15);
    let seen = guest.seen.lock().expect("lock");
    assert_eq!(
        seen.activations[0].queues[0]
            .as_ref()
            .expect("queue 0")
            .queue
            .size(),
        8
    );
}

#[test]
fn wrong_queues_end_in_needs_reset_and_an_interrupt() {
    let wrong: [fn(&mut Guest); 4] = [
        |guest| guest.set_up_queue(0, 0),
        |guest| guest.set_up_queue(0, 12),
        |guest| guest.set_up_queue(0, 32),
        |guest| {
            guest.set(reg::QUEUE_DEVICE_HIGH, 0xffff_ffff);
            guest.set_up_queue(0, 16);
        },
    ];
    for set_up in wrong {
        let mut guest = Guest::new();
        guest.negotiate(VERSION_1);
        set_up(&mut guest);
        guest.set(reg::STATUS, 15);
        assert_eq!(guest.get(reg::STATUS), 15 | 64);
        assert_eq!(guest.get(reg::INTERRUPT_STATUS), 2);
        assert_eq!(guest.activations(), 0);
        guest.set(reg::STATUS, 0);
        assert_eq!(guest.get(reg::STATUS), 0);
        guest.negotiate(VERSION_1);
        guest.set_up_queue(0, 16);
        guest.set(reg::STATUS, 15);
        assert_eq!(guest.activations(), 1, "a reset makes it good again");
    }
}

#[test]
fn a_device_that_refuses_needs_a_reset() {
    let mut guest = Guest::with(true);
    guest.negotiate(VERSION_1);
    guest.set(reg::STATUS, 15);
    assert_eq!(guest.get(reg::STATUS), 15 | 64);
    assert_eq!(guest.line.read().expect("pulsed"), 1);
}

/// Cloud Hypervisor 082fdc4d0: a queue that does not exist was selected.
#[test]
fn queues_that_do_not_exist_are_nothing() {
    let mut guest = Guest::new();
    guest.negotiate(VERSION_1);
    for index in [2, 0xffff, u32::MAX] {
        guest.set_up_queue(index, 16);
        assert_eq!(guest.get(reg::QUEUE_NUM_MAX), 0);
        assert_eq!(guest.get(reg::QUEUE_READY), 0);
        guest.set(reg::QUEUE_NOTIFY, index);
    }
    guest.set(reg::STATUS, 15);
    assert!(
        guest.seen.lock().expect("lock").activations[0]
            .queues
            .iter()
            .all(Option::is_none)
    );
}

#[test]
fn queues_cannot_be_set_up_before_features_are_agreed() {
    let mut guest = Guest::new();
    guest.set_up_queue(0, 16);
    assert_eq!(guest.get(reg::QUEUE_READY), 0);
    guest.set(reg::STATUS, 1);
    guest.set_up_queue(0, 16);
    assert_eq!(guest.get(reg::QUEUE_READY), 0);
}

#[test]
fn registers_have_one_width_and_configuration_any() {
    let mut guest = Guest::new();
    for width in [1, 2, 8] {
        let mut data = vec![0xaa; width];
        guest.transport.read(reg::MAGIC_VALUE, &mut data);
        assert_eq!(data, vec![0; width]);
        guest.transport.write(reg::STATUS, &vec![1; width]);
    }
    let mut data = [0xaa; 4];
    guest.transport.read(reg::MAGIC_VALUE + 2, &mut data);
    assert_eq!(data, [0; 4]);
    assert_eq!(guest.get(reg::STATUS), 0);
    let mut byte = [0];
    guest.transport.read(reg::CONFIG + 7, &mut byte);
    assert_eq!(byte, [7]);
    let mut double = [0; 8];
    guest.transport.read(reg::CONFIG + 1, &mut double);
    assert_eq!(double, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn configuration_is_written_by_drivers_only() {
    let mut guest = Guest::new();
    guest.transport.write(reg::CONFIG, &[1]);
    guest.negotiate(VERSION_1);
    for offset in 0..5000 {
        guest.transport.write(reg::CONFIG + offset, &[2; 8]);
    }
    guest.set(reg::STATUS, 11 | 128);
    guest.transport.write(reg::CONFIG, &[3]);
    let seen = guest.seen.lock().expect("lock");
    assert_eq!(seen.config.len(), 5000);
    assert!(seen.config.iter().all(|(_, data)| data == &[2; 8]));
}

#[test]
fn shared_memory_is_found_by_its_id() {
    let mut guest = Guest::new();
    guest.set(reg::SHM_SEL, 1);
    assert_eq!(guest.get(reg::SHM_BASE_LOW), 0x3456_7000);
    assert_eq!(guest.get(reg::SHM_BASE_HIGH), 0x12);
    assert_eq!(guest.get(reg::SHM_LEN_LOW), 0);
    assert_eq!(guest.get(reg::SHM_LEN_HIGH), 2);
    for id in [0, 2, 257] {
        guest.set(reg::SHM_SEL, id);
        assert_eq!(guest.get(reg::SHM_LEN_LOW), u32::MAX);
        assert_eq!(guest.get(reg::SHM_LEN_HIGH), u32::MAX);
    }
}

#[test]
fn a_reset_stops_the_device_and_forgets_the_driver() {
    let mut guest = Guest::new();
    guest.negotiate(VERSION_1 | FEATURE);
    guest.set_up_queue(0, 16);
    guest.set(reg::STATUS, 15);
    guest.doorbells[0].write(1).expect("ring");
    guest.set(reg::STATUS, 0);
    assert_eq!(guest.activations(), 0);
    assert_eq!(guest.seen.lock().expect("lock").resets, 1);
    assert!(
        guest.doorbells[0].read().is_err(),
        "an old ring is not heard by the next driver"
    );
    assert_eq!(guest.get(reg::QUEUE_READY), 0);
    guest.negotiate(VERSION_1);
    guest.set(reg::STATUS, 15);
    let seen = guest.seen.lock().expect("lock");
    assert_eq!(seen.activations[0].features, VERSION_1);
    assert!(seen.activations[0].queues.iter().all(Option::is_none));
}

/// A guest that writes anything anywhere: whatever it does, what a device gets is sound.
#[test]
fn noise_never_yields_an_unsound_queue() {
    const REGISTERS: [u64; 14] = [
        reg::DRIVER_FEATURES,
        reg::DRIVER_FEATURES_SEL,
        reg::QUEUE_SEL,
        reg::QUEUE_NUM,
        reg::QUEUE_READY,
        reg::QUEUE_NOTIFY,
        reg::INTERRUPT_ACK,
        reg::STATUS,
        reg::QUEUE_DESC_LOW,
        reg::QUEUE_DESC_HIGH,
        reg::QUEUE_DRIVER_LOW,
        reg::QUEUE_DEVICE_LOW,
        reg::SHM_SEL,
        reg::CONFIG,
    ];
    const VALUES: [u32; 14] = [
        0,
        1,
        2,
        3,
        8,
        11,
        15,
        16,
        256,
        0x1_0000,
        0x2_0000,
        0xf_fff0,
        0x80,
        u32::MAX,
    ];
    let mut guest = Guest::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("small")
    };
    let (mut started, mut queues) = (0, 0);
    for step in 0..200_000 {
        if step % 100 == 0 {
            guest.set(reg::STATUS, 0);
            guest.negotiate(VERSION_1);
            guest.set_up_queue(0, 16);
        }
        let register = REGISTERS[random(REGISTERS.len())];
        guest.set(register, VALUES[random(VALUES.len())]);
        guest.get(register);
        let mut seen = guest.seen.lock().expect("lock");
        for activation in seen.activations.drain(..) {
            started += 1;
            assert_ne!(activation.features & VERSION_1, 0);
            for active in activation.queues.iter().flatten() {
                assert!(active.queue.is_valid(&*activation.memory));
                assert!(active.queue.size().is_power_of_two());
                queues += 1;
            }
        }
    }
    assert!(
        started > 100 && queues > 100,
        "the noise started {started} devices with {queues} queues"
    );
}
