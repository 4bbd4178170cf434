//! The guest's wall clock: set from the host's when it is behind.
//!
//! Called by `control` at `Prepare`.

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

const SECOND: i128 = 1_000_000_000;

/// Sets CLOCK_REALTIME to `realtime_ns` if it is more than a second behind; 0, no time, sets
/// nothing.
///
/// It is not set back: what the host says was under way for a while, seconds where the machine or
/// the VM's share of it is small, and a guest that is ahead of it has the right time already.
pub(crate) fn set(realtime_ns: u64) -> Result<(), Errno> {
    let now = clock_gettime(ClockId::Realtime);
    let now = i128::from(now.tv_sec) * SECOND + i128::from(now.tv_nsec);
    if i128::from(realtime_ns) - now <= SECOND {
        return Ok(());
    }
    let part = |value| i64::try_from(value).map_err(|_| Errno::INVAL);
    clock_settime(
        ClockId::Realtime,
        Timespec {
            tv_sec: part(realtime_ns / 1_000_000_000)?,
            tv_nsec: part(realtime_ns % 1_000_000_000)?,
        },
    )
}
