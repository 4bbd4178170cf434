//! A guest that sends anything: whatever it does, the device answers, and a reset leaves nothing.

use super::super::control::QueueKind;
use super::commands::*;
use super::renderer::{OPAQUE, SHORT};

const KINDS: [u32; 30] = [
    0,
    0x100,
    0x101,
    0x102,
    0x103,
    0x104,
    0x105,
    0x106,
    0x107,
    0x108,
    0x109,
    0x10a,
    0x10b,
    0x10c,
    0x10d,
    0x10e,
    0x200,
    0x201,
    0x202,
    0x203,
    0x204,
    0x205,
    0x206,
    0x207,
    0x208,
    0x209,
    0x300,
    0x301,
    0x1100,
    u32::MAX,
];

const NUMBERS: [u64; 20] = [
    0,
    1,
    2,
    3,
    4,
    8,
    63,
    64,
    72,
    0x1000,
    0x2000,
    0x3000,
    0x1_0000,
    0x3f_f000,
    0x40_0000,
    OPAQUE,
    SHORT,
    1 << 32,
    1 << 63,
    u64::MAX,
];

#[test]
fn noise_is_answered_and_forgotten() {
    noise(Device::new(), &[4]);
}

#[test]
fn so_is_noise_with_opengl() {
    noise(Device::with_opengl(), &[4, 2, 0]);
}

/// Contexts are of one of `capsets`, or of anything.
fn noise(mut device: Device, capsets: &[u32]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let (mut done, mut refused, mut mapped) = (0, 0, 0);
    for step in 0..200_000 {
        if step % 2000 == 0 {
            device.control.reset();
            assert!(device.held.is_empty());
        }
        let kind = KINDS[random(KINDS.len())];
        let mut body = Vec::new();
        for _ in 0..random(24) {
            let number = NUMBERS[random(NUMBERS.len())].to_le_bytes();
            body.extend(&number[..if random(4) == 0 { 8 } else { 4 }]);
        }
        if kind == 0x200 && random(2) == 0 {
            body = words(&[0, capsets[random(capsets.len())]]);
            body.resize(72, 0);
        }
        if kind == 0x10c && random(2) == 0 {
            let resource = u32::try_from(random(4)).unwrap();
            let (blob, size) = (NUMBERS[random(20)], NUMBERS[random(15)]);
            body = blob_body(resource, 2, blob, size, &[]);
        }
        if kind == 0x208 && random(2) == 0 {
            body = words(&[u32::try_from(random(4)).unwrap(), 0]);
            body.extend(NUMBERS[random(NUMBERS.len())].to_le_bytes());
        }
        let context = u32::try_from(random(4)).unwrap();
        let ring = u8::try_from(random(70)).unwrap();
        let flags = u32::try_from(random(5)).unwrap();
        let fence = NUMBERS[random(NUMBERS.len())];
        let mut command = full(kind, flags, fence, context, ring, &body);
        if random(16) == 0 {
            command.truncate(random(command.len() + 1));
        }
        let queue = match random(8) {
            0 => QueueKind::Cursor,
            _ => QueueKind::Control,
        };
        let reply = device.control.execute(queue, &device.memory, &command);
        if command.len() < 24 {
            assert_eq!(reply.bytes, []);
            continue;
        }
        match answer(&reply) {
            MAPPED => mapped += 1,
            OK..0x1200 => done += 1,
            UNSPECIFIED..=INVALID => {
                refused += 1;
                assert_eq!(reply.fence, None);
            }
            other => panic!("answer {other:#x}"),
        }
    }
    assert!(
        done > 10_000 && refused > 10_000 && mapped > 10,
        "{done} done, {refused} refused, {mapped} mapped"
    );
}
