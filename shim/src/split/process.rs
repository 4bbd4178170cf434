//! The rows of `process`: everything about the workload's process goes to the guest, with names
//! turned into Linux' numbers.
//!
//! `exec` uses the same rows for its own process.

use krun_gpu_protocol::{
    Capabilities, IoPriority, Process, Rlimit, Scheduler, Seccomp, Stdio, StreamToken,
    TerminalSize, User,
};
use oci_spec::runtime::{
    Capabilities as CapabilityNames, IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, Process as OciProcess, Spec,
};

use super::SplitError;
use crate::bundle::{RLIMITS, capability_number};

/// The guest's form of `process`, its streams without tokens yet.
pub(crate) fn guest_process(
    process: &OciProcess,
    seccomp: Option<Seccomp>,
    personality: Option<u64>,
) -> Result<Process, SplitError> {
    let capabilities = process.capabilities().as_ref().map(|sets| Capabilities {
        bounding: mask(sets.bounding().as_ref()),
        effective: mask(sets.effective().as_ref()),
        inheritable: mask(sets.inheritable().as_ref()),
        permitted: mask(sets.permitted().as_ref()),
        ambient: mask(sets.ambient().as_ref()),
    });
    let user = process.user();
    Ok(Process {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: super::utf8(|| "process.cwd".to_owned(), process.cwd())?,
        user: User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
        },
        capabilities,
        rlimits: rlimits(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj(),
        seccomp,
        io_priority: io_priority(process)?,
        scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        personality,
        stdio: if process.terminal().unwrap_or(false) {
            Stdio::Terminal {
                stream: StreamToken([0; 16]),
                size: console_size(process)?,
            }
        } else {
            Stdio::Pipes {
                stdin: None,
                stdout: None,
                stderr: None,
            }
        },
    })
}

/// The terminal's first size; zeros when none is given.
fn console_size(process: &OciProcess) -> Result<TerminalSize, SplitError> {
    let Some(size) = process.console_size() else {
        return Ok(TerminalSize::default());
    };
    let read = |field: &str, value: u64| {
        u16::try_from(value).map_err(|_| SplitError::Number {
            field: format!("process.consoleSize.{field}"),
            value: i64::try_from(value).unwrap_or(i64::MAX),
        })
    };
    Ok(TerminalSize {
        rows: read("height", size.height())?,
        columns: read("width", size.width())?,
    })
}

/// The personality(2) value of `linux.personality`.
pub(crate) fn personality(spec: &Spec) -> Result<Option<u64>, SplitError> {
    let linux = spec.linux().as_ref();
    let Some(personality) = linux.and_then(|linux| linux.personality().as_ref()) else {
        return Ok(None);
    };
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(SplitError::Unsupported {
            field: "linux.personality.flags",
            value: flag.clone(),
            reason: "no flags are defined",
        });
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

fn mask(names: Option<&CapabilityNames>) -> u64 {
    names
        .into_iter()
        .flatten()
        .filter_map(|name| capability_number(&format!("CAP_{name}")))
        .fold(0, |mask, number| mask | 1 << number)
}

fn rlimits(process: &OciProcess) -> Result<Vec<Rlimit>, SplitError> {
    let read = |(index, limit): (usize, &oci_spec::runtime::PosixRlimit)| {
        let name = limit.typ().to_string();
        let resource = RLIMITS.iter().position(|known| *known == name);
        if limit.soft() > limit.hard() {
            return Err(SplitError::Rlimit {
                index,
                name,
                soft: limit.soft(),
                hard: limit.hard(),
            });
        }
        Ok(Rlimit {
            resource: resource
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or_default(),
            soft: limit.soft(),
            hard: limit.hard(),
        })
    };
    process
        .rlimits()
        .iter()
        .flatten()
        .enumerate()
        .map(read)
        .collect()
}

fn io_priority(process: &OciProcess) -> Result<Option<IoPriority>, SplitError> {
    let Some(priority) = process.io_priority() else {
        return Ok(None);
    };
    Ok(Some(IoPriority {
        class: match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        },
        priority: u16::try_from(priority.priority())
            .ok()
            .filter(|priority| *priority < 8)
            .ok_or(SplitError::Number {
                field: "process.ioPriority.priority".to_owned(),
                value: priority.priority(),
            })?,
    }))
}

fn scheduler(scheduler: &oci_spec::runtime::Scheduler) -> Result<Scheduler, SplitError> {
    let priority = scheduler.priority().unwrap_or(0);
    Ok(Scheduler {
        policy: match scheduler.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => 1,
            LinuxSchedulerPolicy::SchedRr => 2,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => 4,
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => 6,
        },
        flags: scheduler.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                    LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                    LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                    LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                    LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                    LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                    LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
                }
        }),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(priority).map_err(|_| SplitError::Number {
            field: "process.scheduler.priority".to_owned(),
            value: priority.into(),
        })?,
        deadline: [
            scheduler.runtime().unwrap_or(0),
            scheduler.deadline().unwrap_or(0),
            scheduler.period().unwrap_or(0),
        ],
    })
}
