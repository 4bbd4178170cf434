//! Resource limits, scheduling and personality of the calling process, by Linux's own numbers.
//!
//! Called by `process/limits`. The numbers come from the specification through the host; the
//! kernel checks them.

use krun_gpu_protocol::{IoPriority, Rlimit, Scheduler};
use rustix::io::Errno;

use super::checked;

/// setrlimit(2).
pub(crate) fn set_limit(limit: &Rlimit) -> Result<(), Errno> {
    let value = libc::rlimit64 {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // SAFETY: the structure is complete and only read; a null pointer asks for no old value.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            limit.resource,
            &raw const value,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
    .map(drop)
}

/// ioprio_set(2) for this process.
pub(crate) fn set_io_priority(priority: IoPriority) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value =
        (libc::c_int::from(priority.class) << CLASS_SHIFT) | libc::c_int::from(priority.priority);
    // SAFETY: plain integers.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// sched_setattr(2) for this process.
pub(crate) fn set_scheduler(scheduler: &Scheduler) -> Result<(), Errno> {
    // SAFETY: all zeros are valid for this structure of integers.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    attributes.size = u32::try_from(size_of::<libc::sched_attr>()).map_err(|_| Errno::INVAL)?;
    attributes.sched_policy = scheduler.policy;
    attributes.sched_flags = scheduler.flags;
    attributes.sched_nice = scheduler.nice;
    attributes.sched_priority = scheduler.priority;
    [
        attributes.sched_runtime,
        attributes.sched_deadline,
        attributes.sched_period,
    ] = scheduler.deadline;
    // SAFETY: the structure carries its own size and is only read.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
        .map(drop)
}

/// personality(2).
pub(crate) fn set_personality(value: u64) -> Result<(), Errno> {
    // SAFETY: a plain integer.
    checked(unsafe { libc::syscall(libc::SYS_personality, value) }).map(drop)
}
