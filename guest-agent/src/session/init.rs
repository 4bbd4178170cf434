//! The workload's first process: PID 1 of its namespaces. It builds the surroundings, waits for
//! `Start`, runs the startContainer hooks and becomes the program.
//!
//! Called by `control` at `Prepare`.

use std::convert::Infallible;
use std::os::fd::AsFd;

use krun_gpu_protocol::{ErrorKind, Workload};

use super::child::{execute, fail, settle, tell, unsettled};
use super::report::{Channel, Message, Received};
use super::{Session, SessionError};
use crate::failure::report;
use crate::process::limits::set_oom_score;
use crate::stdio::{ProcessEnds, Stdio};
use crate::sys::{clone, exec};
use crate::workload::cgroup::Cgroup;
use crate::workload::{Surroundings, build, hooks};

/// Makes the process. It reports `Prepared` or `Failed` for `request`.
pub(crate) fn start(
    workload: &Workload,
    surroundings: &Surroundings,
    cgroup: &Cgroup,
    request: u64,
) -> Result<Session, SessionError> {
    let system = |doing| move |source| SessionError::System { doing, source };
    let (stdio, ends) = Stdio::new(&workload.process)?;
    let (ours, theirs) = Channel::pair().map_err(system("make the workload's report channel"))?;
    let child = clone::spawn(clone::WORKLOAD_NAMESPACES, cgroup.directory(), || {
        first_process(workload, surroundings, &ends, &theirs)
    })
    .map_err(system("make the workload's first process"))?;
    Ok(Session::new(child, ours, stdio, request))
}

fn first_process(
    workload: &Workload,
    surroundings: &Surroundings,
    ends: &ProcessEnds,
    channel: &Channel,
) -> Infallible {
    let (channel, _) = match settle(ends, channel, None) {
        Ok(settled) => settled,
        Err(error) => fail(channel, unsettled(error)),
    };
    if let Err(error) = set_oom_score(&workload.process) {
        fail(&channel, report(ErrorKind::Failed, &error));
    }
    let size = Stdio::terminal_size(&workload.process);
    let terminal = match build(workload, surroundings, size) {
        Ok(terminal) => terminal,
        Err(error) => fail(&channel, report(ErrorKind::Failed, &error)),
    };
    if let Some(terminal) = &terminal {
        tell(&channel, &Message::Terminal, Some(terminal.master.as_fd()));
    }
    tell(&channel, &Message::Prepared, None);
    match channel.receive(true) {
        Ok(Received::Message(Message::Start, _)) => {}
        // The agent has ended, and the guest with it.
        _ => exec::exit(1),
    }
    let process = &workload.process;
    if let Err(error) = hooks::run(
        &workload.start_container_hooks,
        &workload.state,
        &process.env,
    ) {
        fail(&channel, report(ErrorKind::Failed, &error));
    }
    if let Some(terminal) = &terminal
        && let Err(error) = terminal.take(process.user.uid)
    {
        fail(&channel, report(ErrorKind::Failed, &error));
    }
    execute(process, &channel)
}
