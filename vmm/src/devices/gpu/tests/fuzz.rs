//! What the fuzz target `gpu_control` calls (tests/fuzz).

use super::commands::Device;
use crate::devices::gpu::control::QueueKind;

/// Carries out the commands in `data`, each behind its length in 4-byte words, and forgets them.
/// A length's highest bit puts the command on the cursor queue.
pub fn commands(mut data: &[u8]) {
    let mut device = Device::with_opengl();
    while let Some((length, rest)) = data.split_first() {
        let queue = match length & 0x80 {
            0 => QueueKind::Control,
            _ => QueueKind::Cursor,
        };
        let length = usize::from(length & 0x7f) * 4;
        let (command, rest) = rest.split_at(length.min(rest.len()));
        let reply = device.control.execute(queue, &device.memory, command);
        assert_eq!(reply.bytes.is_empty(), command.len() < 24);
        data = rest;
    }
    device.control.reset();
    assert!(device.held.is_empty());
}
