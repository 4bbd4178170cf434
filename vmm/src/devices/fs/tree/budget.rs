//! How many descriptors the guest may hold.
//!
//! An inode that the guest knows of is a descriptor of this process, and so is a file that it has
//! open. The guest gets most of them and never the last: the rest of the process needs some too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::{Errno, Result};
use rustix::process::{Resource, getrlimit};

/// What one in so many descriptors is kept for: the process itself.
const KEPT_SHARE: u64 = 8;
/// More than this is not kept.
const KEPT_MOST: u64 = 4096;

/// The descriptors that are left for the guest.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// The right to one descriptor. Dropped after the descriptor is closed, it can be had again.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Budget {
    /// As many as the process may have open now, without those that are kept.
    pub(super) fn of_process() -> Self {
        let all = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::new(all - (all / KEPT_SHARE).min(KEPT_MOST))
    }

    fn new(count: u64) -> Self {
        Self(Arc::new(AtomicUsize::new(
            usize::try_from(count).unwrap_or(usize::MAX),
        )))
    }

    /// `ENFILE` when the guest has them all: its own limit for a process is not what was reached.
    pub(super) fn take(&self) -> Result<Permit> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .map(|_| Permit(self.0.clone()))
            .map_err(|_| Errno::NFILE)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let budget = Budget::new(2);
        let (first, _second) = (budget.take().unwrap(), budget.take().unwrap());
        assert_eq!(budget.take().unwrap_err(), Errno::NFILE);
        drop(first);
        assert!(budget.take().is_ok());
    }
}
