//! The render server's seccomp filter: everything that no Vulkan driver has a use for fails.
//!
//! Drivers differ too much for a list of what they may do, so this is a list of what a process
//! would do that wants out: mounts, namespaces, other processes' memory, kernel interfaces with a
//! history of holes, modes and owners of files, sockets other than pairs.

use libseccomp::{
    ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, error::SeccompError,
};

/// Calls that fail with EPERM. Landlock says nothing of files' modes, owners and attributes, nor of
/// who answers on a socket of the host's; a server that runs as root has a right to all of them.
const DENIED: [&str; 95] = [
    "accept",
    "accept4",
    "acct",
    "add_key",
    "adjtimex",
    "bind",
    "bpf",
    "chmod",
    "chown",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "connect",
    "delete_module",
    "fanotify_init",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "finit_module",
    "fremovexattr",
    "fsconfig",
    "fsetxattr",
    "fsmount",
    "fsopen",
    "fspick",
    "futimesat",
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
    "lchown",
    "listen",
    "lookup_dcookie",
    "lremovexattr",
    "lsetxattr",
    "mknod",
    "mknodat",
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
    "removexattr",
    "removexattrat",
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
    "setxattr",
    "setxattrat",
    "socket",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "utime",
    "utimensat",
    "utimes",
    "vhangup",
    "vmsplice",
];

/// Whose priorities: those of all processes of a user, in whatever namespace.
const PRIORITY_OF_USER: u64 = libc::PRIO_USER as u64;
const IO_PRIORITY_OF_USER: u64 = 3;

/// The type of a socket, without the flags that come with it.
const SOCKET_TYPES: u64 = 0xf;
const DATAGRAMS: u64 = libc::SOCK_DGRAM as u64;

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
    let mut deny_where = |name, argument, comparison, value| {
        let condition = ScmpArgCompare::new(argument, comparison, value);
        let call = ScmpSyscall::from_name(name)?;
        filter
            .add_rule_conditional(denied, call, &[condition])
            .map(drop)
    };
    for bit in (0..64).map(|bit| 1_u64 << bit) {
        if NEW_NAMESPACES & bit != 0 {
            deny_where("clone", 0, ScmpCompareOp::MaskedEqual(bit), bit)?;
        }
    }
    deny_where("setpriority", 0, ScmpCompareOp::Equal, PRIORITY_OF_USER)?;
    deny_where("ioprio_set", 0, ScmpCompareOp::Equal, IO_PRIORITY_OF_USER)?;
    // A message on such a socket may name whom it is for.
    let types = ScmpCompareOp::MaskedEqual(SOCKET_TYPES);
    deny_where("socketpair", 1, types, DATAGRAMS)?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    /// Does something below the filter, in a child that then runs a shell script.
    fn run(first: fn() -> io::Result<()>, script: &str) -> io::Result<Option<i32>> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        // SAFETY: the child alone loads the filter; the test's own threads do not run in it.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                load().map_err(io::Error::other)?;
                first()
            });
        }
        Ok(command.status()?.code())
    }

    fn status(script: &str) -> Option<i32> {
        run(|| Ok(()), script).unwrap()
    }

    fn errno(first: fn() -> io::Result<()>) -> Option<i32> {
        run(first, "exit 0").err()?.raw_os_error()
    }

    #[test]
    fn ordinary_programs_run_and_namespaces_are_not_to_be_had() {
        assert_eq!(status("echo a | cat >/dev/null"), Some(0));
        assert_eq!(status("unshare --user true 2>/dev/null"), Some(1));
        assert_ne!(status("mount -t tmpfs none /mnt 2>/dev/null"), Some(0));
    }

    #[test]
    fn modes_of_files_stay_as_they_are() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = |verb: &str| format!("{verb} {} 2>/dev/null", file.path().display());
        assert_eq!(status(&script("test -w")), Some(0));
        assert_eq!(status(&script("chmod u+s")), Some(1));
        assert_eq!(status(&script("touch -d yesterday")), Some(1));
    }

    #[test]
    fn priorities_are_those_of_its_own_processes() {
        assert_eq!(status("renice -n 1 -p $$ >/dev/null"), Some(0));
        assert_ne!(status("renice -n 1 -u $(id -u) 2>/dev/null"), Some(0));
    }

    #[test]
    fn sockets_are_pairs_that_know_of_nobody_else() {
        assert_eq!(errno(|| UnixStream::pair().map(drop)), None);
        assert_eq!(errno(|| UnixDatagram::pair().map(drop)), Some(libc::EPERM));
        let connect = || UnixStream::connect("/run/nobody").map(drop);
        assert_eq!(errno(connect), Some(libc::EPERM));
        assert_eq!(
            errno(|| UdpSocket::bind("[::]:0").map(drop)),
            Some(libc::EPERM)
        );
    }
}
