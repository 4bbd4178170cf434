//! A queue as the driver sets it up, before the device has it.
//!
//! Plain numbers from the guest, believed by nobody until [`QueueSetup::validate`] turns them
//! into a `virtio_queue::Queue` at DRIVER_OK. virtio 1.2, section 2.7.

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

/// The registers of one queue.
#[derive(Clone, Debug)]
pub(super) struct QueueSetup {
    max_size: u16,
    pub(super) size: u32,
    pub(super) ready: bool,
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
}

/// Which half of a 64-bit register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Half {
    Low,
    High,
}

/// Replaces one half of a 64-bit register.
pub(super) fn set_half(register: &mut u64, half: Half, value: u32) {
    let value = u64::from(value);
    *register = match half {
        Half::Low => *register & !0xffff_ffff | value,
        Half::High => *register & 0xffff_ffff | value << 32,
    };
}

/// Reads one half of a 64-bit register.
pub(super) fn half(register: u64, half: Half) -> u32 {
    let [a, b, c, d, e, f, g, h] = register.to_le_bytes();
    match half {
        Half::Low => u32::from_le_bytes([a, b, c, d]),
        Half::High => u32::from_le_bytes([e, f, g, h]),
    }
}

impl QueueSetup {
    pub(super) fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: 0,
            ready: false,
            descriptors: 0,
            driver: 0,
            device: 0,
        }
    }

    pub(super) fn max_size(&self) -> u16 {
        self.max_size
    }

    /// The queue that these registers describe, if it is one that a device can work with.
    pub(super) fn validate(
        &self,
        memory: &GuestMemoryMmap,
        event_idx: bool,
    ) -> Result<Queue, InvalidQueue> {
        let size = u16::try_from(self.size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= self.max_size)
            .ok_or(InvalidQueue::Size {
                size: self.size,
                max: self.max_size,
            })?;
        let entries = u64::from(size);
        // Descriptors are 16 bytes; the driver's ring is 6 bytes and 2 per entry, the device's
        // 6 bytes and 8 per entry, each with its event field.
        for (part, start, length, align) in [
            ("descriptor table", self.descriptors, 16 * entries, 16),
            ("driver ring", self.driver, 6 + 2 * entries, 2),
            ("device ring", self.device, 6 + 8 * entries, 4),
        ] {
            if start % align != 0 {
                return Err(InvalidQueue::Alignment { part, start });
            }
            let inside = usize::try_from(length)
                .is_ok_and(|length| memory.check_range(GuestAddress(start), length));
            if !inside {
                return Err(InvalidQueue::Outside {
                    part,
                    start,
                    length,
                });
            }
        }
        let mut queue = Queue::new(self.max_size).map_err(|_| InvalidQueue::Size {
            size: self.size,
            max: self.max_size,
        })?;
        queue.set_size(size);
        queue.set_desc_table_address(
            Some(half(self.descriptors, Half::Low)),
            Some(half(self.descriptors, Half::High)),
        );
        queue.set_avail_ring_address(
            Some(half(self.driver, Half::Low)),
            Some(half(self.driver, Half::High)),
        );
        queue.set_used_ring_address(
            Some(half(self.device, Half::Low)),
            Some(half(self.device, Half::High)),
        );
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Ok(queue)
    }
}

/// Why a queue cannot be used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum InvalidQueue {
    #[error("queue size {size} is not a power of two up to {max}")]
    Size { size: u32, max: u16 },
    #[error("the {part} at {start:#x} is not aligned")]
    Alignment { part: &'static str, start: u64 },
    #[error("the {part} at {start:#x} ({length:#x} bytes) is not inside guest memory")]
    Outside {
        part: &'static str,
        start: u64,
        length: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000), (GuestAddress(0x2_0000), 4096)])
            .expect("memory")
    }

    fn good() -> QueueSetup {
        QueueSetup {
            size: 64,
            ready: true,
            descriptors: 0x1000,
            driver: 0x2000,
            device: 0x3000,
            ..QueueSetup::new(256)
        }
    }

    #[test]
    fn a_good_queue_is_taken_as_it_is() {
        let queue = good().validate(&memory(), true).expect("valid");
        assert_eq!(queue.size(), 64);
        assert_eq!(queue.desc_table(), 0x1000);
        assert_eq!(queue.avail_ring(), 0x2000);
        assert_eq!(queue.used_ring(), 0x3000);
        assert!(queue.is_valid(&memory()));
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for size in [0, 3, 65, 512, 1 << 16, u32::MAX] {
            let error = QueueSetup { size, ..good() }
                .validate(&memory(), false)
                .unwrap_err();
            assert_eq!(error, InvalidQueue::Size { size, max: 256 });
        }
    }

    #[test]
    fn rings_must_lie_inside_one_piece_of_memory() {
        // The last valid descriptor table ends with the region; one entry more crosses its end.
        assert!(
            QueueSetup {
                descriptors: 0xfc00,
                ..good()
            }
            .validate(&memory(), false)
            .is_ok()
        );
        for descriptors in [0xfc10, 0x1_0000, 0x1_fff0, u64::MAX - 15] {
            let error = QueueSetup {
                descriptors,
                ..good()
            }
            .validate(&memory(), false);
            assert!(
                matches!(error, Err(InvalidQueue::Outside { .. })),
                "{descriptors:#x}"
            );
        }
        let device = 0x1_0000 - 6 - 8 * 64;
        let aligned = device & !3;
        assert!(
            QueueSetup {
                device: aligned,
                ..good()
            }
            .validate(&memory(), false)
            .is_ok()
        );
        let error = QueueSetup {
            device: aligned + 4,
            ..good()
        }
        .validate(&memory(), false);
        assert!(matches!(error, Err(InvalidQueue::Outside { .. })));
    }

    #[test]
    fn rings_must_be_aligned() {
        for setup in [
            QueueSetup {
                descriptors: 0x1008,
                ..good()
            },
            QueueSetup {
                driver: 0x2001,
                ..good()
            },
            QueueSetup {
                device: 0x3002,
                ..good()
            },
        ] {
            let error = setup.validate(&memory(), false);
            assert!(matches!(error, Err(InvalidQueue::Alignment { .. })));
        }
    }
}
