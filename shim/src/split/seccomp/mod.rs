//! The row of `linux.seccomp`: compiled to BPF here, loaded by the agent just before execve.
//!
//! The filter guards the guest's kernel from the workload. It is not meant for a VMM, so the host
//! never loads it.

mod program;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};

use krun_gpu_protocol::Seccomp;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use nix::sys::memfd::MFdFlags;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

/// The kernel's `SECCOMP_FILTER_FLAG_*`.
const FLAG_TSYNC: u64 = 1;
const FLAG_LOG: u64 = 2;
const FLAG_SPEC_ALLOW: u64 = 4;

/// The kernel's name for x86-64 in `struct seccomp_data`.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Why a filter cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    /// It wants a supervisor, which would sit on the wrong side of the VM's wall.
    #[error(
        "{field}: a seccomp listener on the host cannot answer for processes of the guest's kernel"
    )]
    Listener {
        /// The field that wants it.
        field: String,
    },
    /// A number beyond what the kernel takes.
    #[error("{field}: {value} is out of range")]
    Range {
        /// The field.
        field: String,
        /// Its value.
        value: u64,
    },
    /// The file that the program is written to.
    #[error("linux.seccomp: keep the compiled filter")]
    File(#[source] io::Error),
    /// libseccomp refused.
    #[error("linux.seccomp: {action}")]
    Library {
        /// What was being done.
        action: String,
        /// The reason.
        #[source]
        source: libseccomp::error::SeccompError,
    },
}

/// Compiles a filter.
///
/// libseccomp takes an order of magnitude longer for a filter of several architectures than for
/// each alone, so each is compiled alone and [`program::join`] makes one of them. The x32 ABI is
/// left out: the guest's kernel has none, and where a profile lists it, its calls fail as they
/// would without a filter.
pub(crate) fn compile(seccomp: &LinuxSeccomp) -> Result<Seccomp, SeccompError> {
    let lists = |arch| {
        seccomp
            .architectures()
            .iter()
            .flatten()
            .any(|listed| *listed == arch)
    };
    let absent = lists(Arch::ScmpArchX32).then_some(ScmpAction::Errno(libc::ENOSYS));
    let native = compile_for(seccomp, ScmpArch::X8664, absent)?;
    let program = if lists(Arch::ScmpArchX86) {
        let compat = compile_for(seccomp, ScmpArch::X86, None)?;
        program::join(AUDIT_ARCH_X86_64, &native, &compat)
    } else {
        native
    };
    Ok(Seccomp {
        program,
        flags: flags(seccomp)?,
    })
}

/// The program for one architecture; calls of another one get `other`, or are killed.
fn compile_for(
    seccomp: &LinuxSeccomp,
    arch: ScmpArch,
    other: Option<ScmpAction>,
) -> Result<Vec<u8>, SeccompError> {
    let failed = |action: &str| {
        let action = action.to_owned();
        move |source| SeccompError::Library { action, source }
    };
    let default = action(
        "defaultAction",
        seccomp.default_action(),
        seccomp.default_errno_ret(),
    )?;
    let mut filter = ScmpFilterContext::new(default).map_err(failed("make a filter"))?;
    if arch != ScmpArch::X8664 {
        filter
            .add_arch(arch)
            .and_then(|filter| filter.remove_arch(ScmpArch::Native))
            .map_err(failed("choose an architecture"))?;
    }
    if let Some(other) = other {
        filter
            .set_act_badarch(other)
            .map_err(failed("choose what other architectures get"))?;
    }
    // A sorted tree answers in a few instructions where a list takes hundreds. Libraries older
    // than 2.5 do not know it.
    let _ = filter.set_ctl_optimize(2);
    for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        add(&mut filter, index, rule, default)?;
    }
    export(&filter)
}

/// The program of a filter: libseccomp writes it into a file.
fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    let file = nix::sys::memfd::memfd_create(c"seccomp", MFdFlags::MFD_CLOEXEC)
        .map_err(|error| SeccompError::File(error.into()))?;
    filter
        .export_bpf(&file)
        .map_err(|source| SeccompError::Library {
            action: "compile the filter".to_owned(),
            source,
        })?;
    let mut program = Vec::new();
    let mut file = File::from(file);
    file.rewind()
        .and_then(|()| file.read_to_end(&mut program))
        .map_err(SeccompError::File)?;
    Ok(program)
}

fn flags(seccomp: &LinuxSeccomp) -> Result<u64, SeccompError> {
    let mut flags = 0;
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(SeccompError::Listener {
                    field: "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".to_owned(),
                });
            }
        };
    }
    Ok(flags)
}

fn add(
    filter: &mut ScmpFilterContext,
    index: usize,
    rule: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), SeccompError> {
    let field = format!("syscalls[{index}].action");
    let action = action(&field, rule.action(), rule.errno_ret())?;
    if action == default {
        return Ok(());
    }
    let compares: Vec<ScmpArgCompare> = rule
        .args()
        .iter()
        .flatten()
        .map(|arg| compare(index, arg))
        .collect::<Result<_, _>>()?;
    // Several comparisons hold together, unless two of them look at the same argument: then each
    // stands alone. libseccomp takes one comparison for an argument, and runc reads it so.
    let arguments: HashSet<usize> = rule
        .args()
        .iter()
        .flatten()
        .map(|arg| arg.index())
        .collect();
    let alone = arguments.len() != compares.len();
    for name in rule.names() {
        // A system call that this library does not know is one that the profile's author allowed
        // or refused ahead of time.
        let Ok(call) = ScmpSyscall::from_name(name) else {
            continue;
        };
        let added = if compares.is_empty() {
            filter.add_rule(action, call).map(drop)
        } else if alone {
            compares.iter().try_for_each(|compare| {
                filter
                    .add_rule_conditional(action, call, std::slice::from_ref(compare))
                    .map(drop)
            })
        } else {
            filter
                .add_rule_conditional(action, call, &compares)
                .map(drop)
        };
        added.map_err(|source| SeccompError::Library {
            action: format!("syscalls[{index}]: add a rule for `{name}`"),
            source,
        })?;
    }
    Ok(())
}

fn compare(rule: usize, arg: &LinuxSeccompArg) -> Result<ScmpArgCompare, SeccompError> {
    let number = u32::try_from(arg.index())
        .ok()
        .filter(|number| *number < 6)
        .ok_or_else(|| SeccompError::Range {
            field: format!("linux.seccomp.syscalls[{rule}].args.index"),
            value: arg.index() as u64,
        })?;
    // For the masked comparison, `value` is the mask and `valueTwo` what must remain.
    let (operator, datum) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (
            ScmpCompareOp::MaskedEqual(arg.value()),
            arg.value_two().unwrap_or(0),
        ),
    };
    Ok(ScmpArgCompare::new(number, operator, datum))
}

fn action(
    field: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
) -> Result<ScmpAction, SeccompError> {
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    let range = || SeccompError::Range {
        field: format!("linux.seccomp.{field}: errnoRet"),
        value: errno.into(),
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => {
            ScmpAction::Errno(i32::try_from(errno).map_err(|_| range())?)
        }
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(errno).map_err(|_| range())?)
        }
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(SeccompError::Listener {
                field: format!("linux.seccomp.{field}: SCMP_ACT_NOTIFY"),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUDIT_ARCH_I386: u32 = 0x4000_0003;

    fn profile(text: &str) -> LinuxSeccomp {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_listed_architecture_has_its_own_rules() {
        let filter = compile(&profile(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
               "flags": ["SECCOMP_FILTER_FLAG_LOG"],
               "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
               "syscalls": [
                 {"names": ["getpid", "chown32", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                 {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#,
        ))
        .unwrap();
        assert_eq!(filter.flags, FLAG_LOG);
        let run = |arch, number| program::tests::run(&filter.program, arch, number);
        const ALLOW: u32 = 0x7fff_0000;
        const ERRNO: u32 = 0x0005_0000;
        // x86-64: getpid is 39, getcwd 79; x86: getpid is 20, chown32 212, getcwd 183.
        assert_eq!(run(AUDIT_ARCH_X86_64, 39), ALLOW);
        assert_eq!(run(AUDIT_ARCH_X86_64, 79), ERRNO | 95);
        assert_eq!(run(AUDIT_ARCH_X86_64, 20), ERRNO | 38);
        assert_eq!(run(AUDIT_ARCH_X86_64, 0x4000_0000 + 39), ERRNO | 38);
        assert_eq!(run(AUDIT_ARCH_I386, 20), ALLOW);
        assert_eq!(run(AUDIT_ARCH_I386, 212), ALLOW);
        assert_eq!(run(AUDIT_ARCH_I386, 183), ERRNO | 95);
        assert_eq!(run(AUDIT_ARCH_I386, 39), ERRNO | 38);
        assert_eq!(run(0, 39), 0, "other architectures are killed");
    }

    #[test]
    fn without_a_list_only_the_native_architecture_may_call() {
        let filter = compile(&profile(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
               [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#,
        ))
        .unwrap();
        let run = |arch, number| program::tests::run(&filter.program, arch, number);
        assert_eq!(run(AUDIT_ARCH_X86_64, 39), 0x7fff_0000);
        assert_eq!(run(AUDIT_ARCH_X86_64, 79), 0x0005_0000 | 95);
        assert_eq!(run(AUDIT_ARCH_I386, 20), 0);
    }

    #[test]
    fn a_listener_is_refused_by_name() {
        let error = compile(&profile(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
               [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        ))
        .unwrap_err();
        assert!(error.to_string().contains("syscalls[0].action"), "{error}");
    }

    #[test]
    fn several_comparisons_of_one_argument_are_several_rules() {
        compile(&profile(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["personality"],
               "action": "SCMP_ACT_ALLOW", "args": [
                 {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"},
                 {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]}"#,
        ))
        .unwrap();
    }
}
