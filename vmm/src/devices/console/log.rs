//! What the guest said on its console: the last 16 KiB of it.
//!
//! Written by the console device (and by the debugging port), read at any time by the owner of
//! the VM for error reports. The guest decides every byte; nobody interprets them here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How much is kept.
pub(super) const CAPACITY: usize = 16 << 10;

/// A ring of bytes. Cheap to clone; clones share the ring.
#[derive(Clone, Debug)]
pub struct ConsoleLog {
    ring: Arc<Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    bytes: VecDeque<u8>,
    first: Option<Instant>,
}

impl Default for ConsoleLog {
    fn default() -> Self {
        let ring = Ring {
            bytes: VecDeque::with_capacity(CAPACITY),
            first: None,
        };
        Self {
            ring: Arc::new(Mutex::new(ring)),
        }
    }
}

impl ConsoleLog {
    /// Appends `data`; the oldest bytes make room.
    pub(crate) fn append(&self, data: &[u8]) {
        let mut ring = self.lock();
        if ring.first.is_none() && !data.is_empty() {
            ring.first = Some(Instant::now());
        }
        let data = data
            .get(data.len().saturating_sub(CAPACITY)..)
            .unwrap_or(data);
        let surplus = (ring.bytes.len() + data.len()).saturating_sub(CAPACITY);
        ring.bytes.drain(..surplus);
        ring.bytes.extend(data);
    }

    /// Everything that is kept, oldest first.
    pub fn contents(&self) -> Vec<u8> {
        self.lock().bytes.iter().copied().collect()
    }

    /// When the first byte came.
    pub fn first_byte(&self) -> Option<Instant> {
        self.lock().first
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_stay() {
        let log = ConsoleLog::default();
        log.append(b"old");
        log.append(&vec![b'x'; CAPACITY - 1]);
        assert_eq!(log.contents().len(), CAPACITY);
        assert_eq!(log.contents().first(), Some(&b'd'));
        let mut long = vec![b'y'; 3 * CAPACITY];
        long.push(b'z');
        log.append(&long);
        assert_eq!(log.contents().len(), CAPACITY);
        assert_eq!(log.contents().last(), Some(&b'z'));
    }
}
