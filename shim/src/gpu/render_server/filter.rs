//! The render server's seccomp filter: everything that no Vulkan driver has a use for fails.
//!
//! Drivers differ too much for a list of what they may do, so this is a list of what a process
//! would do that wants out: mounts, namespaces, other processes' memory, kernel interfaces with a
//! history of holes, networks.

use libseccomp::{
    ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, error::SeccompError,
};

/// Calls that fail with EPERM.
const DENIED: [&str; 72] = [
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "sethostname",
    "setns",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "settimeofday",
    "setuid",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vmsplice",
    "accept",
    "accept4",
    "listen",
    "mknod",
    "mknodat",
];

/// The families of sockets that a driver may open: its daemon's and the kernel's news of devices.
const UNIX: u64 = libc::AF_UNIX as u64;
const NETLINK: u64 = libc::AF_NETLINK as u64;

/// Flags of clone(2) that make namespaces.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// libseccomp refused.
    #[error("the render server's filter: {action}")]
    Library {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: SeccompError,
    },
}

/// Puts the filter on this process and all that it starts. Calls of other architectures are
/// deadly.
pub(super) fn load() -> Result<(), FilterError> {
    let failed = |action| move |source| FilterError::Library { action, source };
    build()
        .map_err(failed("compile"))?
        .load()
        .map_err(failed("load"))
}

fn build() -> Result<ScmpFilterContext, SeccompError> {
    let denied = ScmpAction::Errno(libc::EPERM);
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    // A sorted tree answers quicker; libraries older than 2.5 do not know it.
    let _ = filter.set_ctl_optimize(2);
    for name in DENIED {
        // One that this library or architecture has not, nobody can call.
        if let Ok(call) = ScmpSyscall::from_name(name) {
            filter.add_rule(denied, call)?;
        }
    }
    // Flags of clone3 are out of a filter's sight; without it the C library takes clone.
    let clone3 = ScmpSyscall::from_name("clone3")?;
    filter.add_rule(ScmpAction::Errno(libc::ENOSYS), clone3)?;
    let clone = ScmpSyscall::from_name("clone")?;
    for bit in (0..64).map(|bit| 1_u64 << bit) {
        if NEW_NAMESPACES & bit != 0 {
            let has = ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(bit), bit);
            filter.add_rule_conditional(denied, clone, &[has])?;
        }
    }
    let socket = ScmpSyscall::from_name("socket")?;
    let refuse = |filter: &mut ScmpFilterContext, compare| {
        filter
            .add_rule_conditional(denied, socket, &[compare])
            .map(drop)
    };
    for family in (0..NETLINK).filter(|family| *family != UNIX) {
        let equal = ScmpArgCompare::new(0, ScmpCompareOp::Equal, family);
        refuse(&mut filter, equal)?;
    }
    let above = ScmpArgCompare::new(0, ScmpCompareOp::Greater, NETLINK);
    refuse(&mut filter, above)?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    /// Runs a shell script below the filter.
    fn status(script: &str) -> Option<i32> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        // SAFETY: the child alone loads the filter; the test's own threads do not run in it.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                load().map_err(std::io::Error::other)
            });
        }
        command.status().unwrap().code()
    }

    #[test]
    fn ordinary_programs_run_and_namespaces_are_not_to_be_had() {
        assert_eq!(status("echo a | cat >/dev/null"), Some(0));
        assert_eq!(status("unshare --user true 2>/dev/null"), Some(1));
        assert_ne!(status("mount -t tmpfs none /mnt 2>/dev/null"), Some(0));
    }
}
