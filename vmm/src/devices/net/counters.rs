//! What went over a NIC's link: its thread counts, its owner looks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::receive::Passed;

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    sent_dropped: AtomicU64,
    received: AtomicU64,
    received_dropped: AtomicU64,
}

/// Frames that a NIC has moved, as the guest sees them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NetStatistics {
    /// Sent by the guest.
    pub sent: u64,
    /// Sent by the guest and dropped: they lied, or the host did not take them.
    pub sent_dropped: u64,
    /// Received by the guest.
    pub received: u64,
    /// Longer than the guest's buffers.
    pub received_dropped: u64,
}

impl Counters {
    pub(super) fn count(&self, sent: &Passed, received: &Passed) {
        for (counter, frames) in [
            (&self.sent, sent.frames),
            (&self.sent_dropped, sent.dropped),
            (&self.received, received.frames),
            (&self.received_dropped, received.dropped),
        ] {
            if frames > 0 {
                counter.fetch_add(frames, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn statistics(&self) -> NetStatistics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetStatistics {
            sent: load(&self.sent),
            sent_dropped: load(&self.sent_dropped),
            received: load(&self.received),
            received_dropped: load(&self.received_dropped),
        }
    }
}
