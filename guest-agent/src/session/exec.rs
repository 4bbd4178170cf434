//! An `exec` session's process: born in the workload's pid namespace and cgroup, it enters the
//! other namespaces itself.
//!
//! Called by `control`.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use krun_gpu_protocol::{ErrorKind, Process};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::child::{execute, fail, settle, tell, unsettled};
use super::report::{Channel, Message};
use super::{Session, SessionError};
use crate::failure::report;
use crate::process::limits::set_oom_score;
use crate::process::terminal::Terminal;
use crate::stdio::{ProcessEnds, Stdio};
use crate::sys::clone;
use crate::workload::cgroup::Cgroup;

/// Makes the process next to `workload`. It reports `Executing` or `Failed` for `request`.
pub(crate) fn start(
    process: &Process,
    workload: &Session,
    cgroup: &Cgroup,
    request: u64,
) -> Result<Session, SessionError> {
    let system = |doing| move |source| SessionError::System { doing, source };
    let (stdio, ends) = Stdio::new(process)?;
    let (ours, theirs) = Channel::pair().map_err(system("make the session's report channel"))?;
    let own =
        pidfd_open(getpid(), PidfdFlags::empty()).map_err(system("open the agent's pidfd"))?;
    // Only children are affected: the agent makes one in the workload's pid namespace.
    let pid_namespace = ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(workload.pidfd().as_fd(), pid_namespace)
        .map_err(system("enter the workload's pid namespace"))?;
    let spawn = |cgroup| {
        clone::spawn(0, cgroup, || {
            joining_process(process, workload.pidfd(), &ends, &theirs)
        })
    };
    let child = match spawn(cgroup.directory()) {
        // The workload has divided its cgroup, which takes no process of its own any more: the
        // session goes where the workload's first process went.
        Err(Errno::BUSY) => match cgroup.directory_of(workload.pid) {
            Ok(directory) => spawn(directory.as_fd()),
            Err(error) => Err(error),
        },
        child => child,
    };
    move_into_thread_name_spaces(own.as_fd(), pid_namespace)
        .map_err(system("return to the agent's pid namespace"))?;
    let child = child.map_err(system("make the session's process"))?;
    Ok(Session::new(child, ours, stdio, request))
}

fn joining_process(
    process: &Process,
    workload: &OwnedFd,
    ends: &ProcessEnds,
    channel: &Channel,
) -> Infallible {
    let (channel, workload) = match settle(ends, channel, Some(workload.as_fd())) {
        Ok((channel, Some(workload))) => (channel, workload),
        Ok((channel, None)) => fail(&channel, unsettled(Errno::BADF)),
        Err(error) => fail(channel, unsettled(error)),
    };
    if let Err(error) = set_oom_score(process) {
        fail(&channel, report(ErrorKind::Failed, &error));
    }
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    if let Err(source) = move_into_thread_name_spaces(workload.as_fd(), namespaces) {
        let error = SessionError::System {
            doing: "enter the workload's namespaces",
            source,
        };
        fail(&channel, report(ErrorKind::Failed, &error));
    }
    drop(workload);
    if let Some(size) = Stdio::terminal_size(process) {
        match Terminal::open(size) {
            Ok(terminal) => {
                tell(&channel, &Message::Terminal, Some(terminal.master.as_fd()));
                if let Err(error) = terminal.take(process.user.uid) {
                    fail(&channel, report(ErrorKind::Failed, &error));
                }
            }
            Err(error) => fail(&channel, report(ErrorKind::Failed, &error)),
        }
    }
    execute(process, &channel)
}
