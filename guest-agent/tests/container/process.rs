//! The process half: who the process is, what it may, how it fails to start.

use krun_gpu_protocol::{Capabilities, ErrorKind, RequestBody, Rlimit, Seccomp};
use libtest_mimic::Trial;

use crate::guest::{Guest, run, shell, workload};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("output_error_and_status", output_error_and_status),
        trial("death_by_signal", death_by_signal),
        trial("pid_1_alone", pid_1_alone),
        trial("missing_programs_read_as_under_crun", missing_programs),
        trial("user_groups_umask", user_groups_umask),
        trial("capabilities", capabilities),
        trial("capabilities_of_an_ordinary_user", ambient_capabilities),
        trial("limits", limits),
        trial("home_and_cwd", home_and_cwd),
        trial("seccomp_with_and_without_new_privileges", seccomp),
        trial("no_descriptor_leaks", no_descriptor_leaks),
        trial("stdout_can_be_opened_again", stdout_again),
    ]
}

fn output_error_and_status() {
    let outcome = shell("echo out; echo err >&2; exit 42");
    assert_eq!(outcome.status, 42);
    assert_eq!(outcome.stdout, "out\n");
    assert_eq!(outcome.stderr, "err\n");
}

fn death_by_signal() {
    // The kernel shields PID 1 from its own TERM, as under crun; a child's death is seen as is.
    let outcome = shell("sh -c 'kill -SEGV $$'; echo $?; sh -c 'kill -TERM $$'; echo $?");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "139\n143\n"));
}

fn pid_1_alone() {
    let outcome = shell(
        "echo $$; for d in /proc/[0-9]*; do echo $d; done; cat /proc/1/cmdline | tr '\\0' ' '",
    );
    assert_eq!(outcome.stdout.lines().next(), Some("1"));
    assert_eq!(
        outcome.stdout.matches("/proc/").count(),
        1 + 2,
        "{outcome:?}"
    );
    assert!(outcome.stdout.ends_with("tr '\\0' ' ' "), "{outcome:?}");
}

fn missing_programs() {
    let start = |args: &[&str], cwd: &str| {
        let mut workload = workload("");
        workload.process.args = args.iter().map(ToString::to_string).collect();
        workload.process.cwd = cwd.into();
        let mut guest = Guest::boot();
        guest.ask(RequestBody::Prepare(Box::new(workload))).unwrap();
        let error = guest
            .ask(RequestBody::Start {
                interfaces: Vec::new(),
            })
            .unwrap_err();
        (error.kind, error.message)
    };
    assert_eq!(
        start(&["no-such-program"], "/"),
        (
            ErrorKind::NotFound,
            "executable file `no-such-program` not found in $PATH: No such file or directory"
                .into()
        )
    );
    assert_eq!(
        start(&["/etc/passwd"], "/"),
        (
            ErrorKind::NotExecutable,
            "the path `/etc/passwd` exists but it is not executable: Operation not permitted"
                .into()
        )
    );
    assert_eq!(
        start(&["/bin/true"], "/no/such/folder"),
        (
            ErrorKind::Failed,
            "chdir to `/no/such/folder`: No such file or directory".into()
        )
    );
}

fn user_groups_umask() {
    let mut workload =
        workload("id -u; id -g; id -G; umask; : > /dev/shm/f; stat -c %a /dev/shm/f");
    workload.process.user.uid = 1000;
    workload.process.user.gid = 1001;
    workload.process.user.additional_gids = vec![7, 1001];
    workload.process.user.umask = Some(0o027);
    let outcome = run(&workload);
    assert_eq!(
        outcome.stdout, "1000\n1001\n1001 7\n0027\n640\n",
        "{outcome:?}"
    );
}

fn sets(script_user: u32, wanted: Capabilities) -> Vec<u64> {
    let mut workload = workload("grep ^Cap /proc/self/status | cut -f2");
    workload.process.user.uid = script_user;
    workload.process.capabilities = Some(wanted);
    run(&workload)
        .stdout
        .lines()
        .map(|line| u64::from_str_radix(line, 16).unwrap())
        .collect()
}

fn capabilities() {
    let wanted = Capabilities {
        bounding: 0x25fb,
        effective: 0x25fb,
        inheritable: 0,
        permitted: 0x25fb,
        ambient: 0,
    };
    // Inheritable, permitted, effective, bounding, ambient.
    assert_eq!(sets(0, wanted), [0, 0x25fb, 0x25fb, 0x25fb, 0]);
    assert_eq!(sets(1000, wanted), [0, 0, 0, 0x25fb, 0]);
}

fn ambient_capabilities() {
    let bind = 1 << 10;
    let wanted = Capabilities {
        bounding: bind | 1,
        effective: bind,
        inheritable: bind,
        permitted: bind,
        ambient: bind,
    };
    assert_eq!(sets(1000, wanted), [bind, bind, bind, bind | 1, bind]);
}

fn limits() {
    let mut workload = workload("ulimit -n; cat /proc/self/oom_score_adj; ulimit -c");
    workload.process.rlimits = vec![
        Rlimit {
            resource: 7,
            soft: 100,
            hard: 200,
        },
        Rlimit {
            resource: 4,
            soft: u64::MAX,
            hard: u64::MAX,
        },
    ];
    workload.process.oom_score_adj = Some(123);
    assert_eq!(run(&workload).stdout, "100\n123\nunlimited\n");
}

fn home_and_cwd() {
    let mut workload = workload("echo $HOME; pwd");
    workload.process.cwd = "/usr/bin".into();
    assert_eq!(run(&workload).stdout, "/root\n/usr/bin\n");
    workload.process.user.uid = 54321;
    workload.process.stdio = crate::guest::pipes();
    assert_eq!(run(&workload).stdout, "/\n/usr/bin\n");
}

/// `mkdir` and `mkdirat` fail with EPERM (x86_64), everything else is allowed.
fn no_mkdir() -> Seccomp {
    let instructions: [(u16, u8, u8, u32); 5] = [
        (0x20, 0, 0, 0),
        (0x15, 2, 0, 83),
        (0x15, 1, 0, 258),
        (0x06, 0, 0, 0x7fff_0000),
        (0x06, 0, 0, 0x0005_0001),
    ];
    let bytes = instructions.iter().flat_map(|(code, jt, jf, k)| {
        let mut bytes = code.to_le_bytes().to_vec();
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_le_bytes());
        bytes
    });
    Seccomp {
        program: bytes.collect(),
        flags: 0,
    }
}

fn seccomp() {
    for no_new_privileges in [false, true] {
        let mut workload = workload(
            "mkdir /dev/shm/x 2>&1; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t' ' '",
        );
        workload.process.no_new_privileges = no_new_privileges;
        workload.process.seccomp = Some(no_mkdir());
        let text = run(&workload).stdout;
        assert!(text.contains("Operation not permitted"), "{text}");
        assert!(text.contains("Seccomp: 2"), "{text}");
        let expected = format!("NoNewPrivs: {}", u8::from(no_new_privileges));
        assert!(text.contains(&expected), "{text}");
    }
}

fn no_descriptor_leaks() {
    // ls itself holds the folder open as number 3.
    assert_eq!(shell("ls /proc/self/fd").stdout, "0\n1\n2\n3\n");
}

fn stdout_again() {
    let mut workload = workload("echo a > /dev/stdout; echo b > /proc/self/fd/2; cat /dev/stdin");
    workload.process.user.uid = 1000;
    let mut guest = Guest::with(&workload);
    let outcome = guest.finish(0, &workload.process.stdio, b"c\n");
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("a\nc\n", "b\n")
    );
}
