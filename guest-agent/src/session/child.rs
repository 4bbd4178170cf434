//! The first moments of a child: its descriptors and signals are put in order.
//!
//! Called by `init` and `exec`, in the child. It starts as a copy of the agent with the agent's
//! descriptors; it keeps its three standard streams, the channel, and what it asks for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use krun_gpu_protocol::{AgentError, ErrorKind, Process};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{DumpableBehavior, getpid, set_dumpable_behavior};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::SessionError;
use super::report::{Channel, Message};
use crate::failure::report;
use crate::process::run;
use crate::stdio::ProcessEnds;
use crate::sys::{exec, signal};

/// Descriptor numbers of the child.
const CHANNEL: RawFd = 3;
const EXTRA: RawFd = 4;

/// Arranges this child's descriptors: `streams` as 0 to 2, the channel as 3, `extra` as 4, and
/// nothing else. Signals are back at their defaults afterwards.
pub(super) fn settle(
    streams: &ProcessEnds,
    channel: &Channel,
    extra: Option<BorrowedFd<'_>>,
) -> Result<(Channel, Option<OwnedFd>), Errno> {
    // Copies above the numbers that are about to be taken, so that none is overwritten.
    let above = |descriptor: BorrowedFd<'_>| fcntl_dupfd_cloexec(descriptor, EXTRA + 1);
    let ends = [
        above(streams.stdin.as_fd())?,
        above(streams.stdout.as_fd())?,
        above(streams.stderr.as_fd())?,
    ];
    let channel_copy = above(channel.as_fd())?;
    let extra_copy = extra.map(above).transpose()?;
    dup2_stdin(&ends[0])?;
    dup2_stdout(&ends[1])?;
    dup2_stderr(&ends[2])?;
    let channel = exec::duplicate_to(channel_copy.as_fd(), CHANNEL)?;
    let extra = extra_copy
        .as_ref()
        .map(|extra| exec::duplicate_to(extra.as_fd(), EXTRA))
        .transpose()?;
    drop((ends, channel_copy, extra_copy));
    exec::close_from(EXTRA + RawFd::from(extra.is_some()))?;
    // A process of the workload could reach the agent's memory through this child otherwise.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    signal::reset()?;
    Ok((Channel::from_descriptor(channel), extra))
}

/// Tells the agent what went wrong and ends.
pub(super) fn fail(channel: &Channel, error: AgentError) -> ! {
    channel.fail(error);
    exec::exit(1)
}

/// Applies `process` and becomes its program.
pub(super) fn execute(process: &Process, channel: &Channel) -> ! {
    let before_exec = || {
        let pid = getpid().as_raw_nonzero().get();
        if channel.send(&Message::Executing { pid }, None).is_err() {
            exec::exit(1);
        }
    };
    let Err(error) = run(process, before_exec);
    fail(channel, error.report())
}

/// Sends what the agent waits for; without it the session would hang.
pub(super) fn tell(channel: &Channel, message: &Message, descriptor: Option<BorrowedFd<'_>>) {
    if channel.send(message, descriptor).is_err() {
        exec::exit(1);
    }
}

/// What a failure of [`settle`] is called.
pub(super) fn unsettled(source: Errno) -> AgentError {
    report(
        ErrorKind::Failed,
        &SessionError::System {
            doing: "arrange the process' descriptors and signals",
            source,
        },
    )
}
