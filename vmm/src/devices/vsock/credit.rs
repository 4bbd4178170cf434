//! Flow control: virtio 1.2, section 5.10.6.3.
//!
//! Each side announces how large its buffer is (`buf_alloc`) and how much it has taken out of it
//! (`fwd_cnt`); all counters wrap. The guest's numbers are believed only where they agree with
//! what went over the connection: one that does not ends it.

/// Bytes of a connection that the muxer holds for an output that takes no more.
pub(super) const BUFFER: u32 = 256 << 10;

/// Once the guest knows of this much less space than there is, it is told.
const UPDATE_AFTER: u32 = BUFFER / 2;

/// The guest broke the rules of flow control.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CreditViolation;

/// Both directions' counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Credit {
    /// Bytes that came from the guest.
    received: u32,
    /// Bytes of those that left the buffer: our `fwd_cnt`.
    forwarded: u32,
    /// The `fwd_cnt` that the guest was told last.
    announced: u32,
    /// Bytes sent to the guest.
    sent: u32,
    /// The guest's `buf_alloc`.
    peer_buffer: u32,
    /// The guest's `fwd_cnt`.
    peer_forwarded: u32,
}

impl Credit {
    /// Takes note of the counters in a packet of the guest's.
    pub(super) fn learn(&mut self, buf_alloc: u32, fwd_cnt: u32) -> Result<(), CreditViolation> {
        let in_flight = self.sent.wrapping_sub(self.peer_forwarded);
        if fwd_cnt.wrapping_sub(self.peer_forwarded) > in_flight {
            return Err(CreditViolation);
        }
        self.peer_buffer = buf_alloc;
        self.peer_forwarded = fwd_cnt;
        Ok(())
    }

    /// Takes note of `length` bytes from the guest; more than the buffer has room for is an error.
    pub(super) fn receive(&mut self, length: u32) -> Result<(), CreditViolation> {
        let held = self.received.wrapping_sub(self.forwarded);
        if length > BUFFER.saturating_sub(held) {
            return Err(CreditViolation);
        }
        self.received = self.received.wrapping_add(length);
        Ok(())
    }

    /// Takes note of `length` bytes that left the buffer.
    pub(super) fn forward(&mut self, length: u32) {
        self.forwarded = self.forwarded.wrapping_add(length);
    }

    /// Takes note of `length` bytes sent to the guest.
    pub(super) fn send(&mut self, length: u32) {
        self.sent = self.sent.wrapping_add(length);
    }

    /// How many bytes the guest has room for. It may have shrunk its buffer below what it holds.
    pub(super) fn available(&self) -> u32 {
        let in_flight = self.sent.wrapping_sub(self.peer_forwarded);
        self.peer_buffer.saturating_sub(in_flight)
    }

    /// Whether the guest should be told of the room that it does not know of.
    pub(super) fn update_due(&self) -> bool {
        self.forwarded.wrapping_sub(self.announced) >= UPDATE_AFTER
    }

    /// Our `fwd_cnt`, for a packet that goes to the guest now.
    pub(super) fn announce(&mut self) -> u32 {
        self.announced = self.forwarded;
        self.forwarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_wrap() {
        let start = u32::MAX - 10;
        let mut credit = Credit {
            received: start,
            forwarded: start,
            announced: start,
            sent: start,
            peer_buffer: 100,
            peer_forwarded: start,
        };
        credit.receive(BUFFER).unwrap();
        assert_eq!(credit.receive(1), Err(CreditViolation));
        credit.forward(BUFFER);
        assert!(credit.update_due());
        assert_eq!(credit.announce(), start.wrapping_add(BUFFER));
        assert!(!credit.update_due());

        credit.send(60);
        assert_eq!(credit.available(), 40);
        credit.learn(100, start.wrapping_add(60)).unwrap();
        assert_eq!(credit.available(), 100);
    }

    #[test]
    fn a_guest_cannot_have_taken_what_was_not_sent_nor_give_it_back() {
        let mut credit = Credit::default();
        credit.learn(1000, 0).unwrap();
        credit.send(10);
        assert_eq!(credit.learn(1000, 11), Err(CreditViolation));
        credit.learn(1000, 10).unwrap();
        assert_eq!(credit.learn(1000, 9), Err(CreditViolation));
    }

    #[test]
    fn a_shrunken_buffer_is_no_room_rather_than_a_lot() {
        let mut credit = Credit::default();
        credit.learn(1000, 0).unwrap();
        credit.send(1000);
        credit.learn(10, 500).unwrap();
        assert_eq!(credit.available(), 0);
    }
}
