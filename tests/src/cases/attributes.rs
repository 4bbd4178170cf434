//! The process as specified: every attribute that Podman's flags give it, beyond those of `process`.

use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "attributes::capabilities",
        run: capabilities,
    },
    Case {
        name: "attributes::privileged",
        run: privileged,
    },
    Case {
        name: "attributes::groups",
        run: groups,
    },
    Case {
        name: "attributes::umask",
        run: umask,
    },
    Case {
        name: "attributes::init",
        run: init,
    },
    Case {
        name: "attributes::seccomp_actions",
        run: seccomp_actions,
    },
    Case {
        name: "attributes::sysctls",
        run: sysctls,
    },
    Case {
        name: "attributes::shared_memory_of_the_host",
        run: shared_memory_of_the_host,
    },
    Case {
        name: "attributes::processes_of_others",
        run: processes_of_others,
    },
    Case {
        name: "attributes::clocks_and_priorities",
        run: clocks_and_priorities,
    },
    Case {
        name: "attributes::cgroup_namespace",
        run: cgroup_namespace,
    },
    Case {
        name: "attributes::automatic_user_namespace",
        run: automatic_user_namespace,
    },
];

/// `script` with a directory `$d` of the host.
fn in_directory(script: &str) -> String {
    format!("d=$(mktemp -d); chmod 755 $d; trap 'rm -rf $d' EXIT\n{script}")
}

fn capabilities() -> Outcome {
    same(&in_directory(
        r#"run --cap-add all $BB grep ^Cap /proc/self/status; run -u 1000 --cap-add NET_ADMIN $BB grep ^Cap /proc/self/status"#,
    ))
    .map(drop)
}

fn privileged() -> Outcome {
    same(&in_directory(
        r#"run --privileged $BB sh -c 'grep -E "^(Cap|NoNew|Seccomp:)" /proc/self/status; mount -t tmpfs t /tmp && echo mounted; echo 1 > /proc/sys/vm/swappiness; echo $?; ls /sys/fs/cgroup | grep -c cgroup.procs; mkdir /sys/fs/cgroup/x; echo $?; grep -c " /proc/" /proc/mounts'
           run --privileged -u 1000 $BB grep ^Cap /proc/self/status"#,
    ))
    .map(drop)
}

fn groups() -> Outcome {
    same(&in_directory(
        r#"run -u user --group-add 3000 --group-add extra $BB id; run -u 1000:1000 --group-add root $BB id"#,
    ))
    .map(drop)
}

fn umask() -> Outcome {
    same(&in_directory(
        r#"run --umask 0077 $BB sh -c 'umask; touch /tmp/x; stat -c %a /tmp/x'"#,
    ))
    .map(drop)
}

fn init() -> Outcome {
    same(&in_directory(
        r#"run --init $BB sh -c 'echo $$; tr "\0" " " </proc/1/cmdline; exit 5'"#,
    ))
    .map(drop)
}

fn seccomp_actions() -> Outcome {
    same(&in_directory(
        r#"echo '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"},{"names":["chmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO","errnoRet":99},{"names":["symlink","symlinkat"],"action":"SCMP_ACT_KILL_PROCESS"},{"names":["link","linkat"],"action":"SCMP_ACT_KILL"},{"names":["sethostname"],"action":"SCMP_ACT_TRAP"},{"names":["nosuchcall","umount2"],"action":"SCMP_ACT_ERRNO"},{"names":["sync"],"action":"SCMP_ACT_LOG"},{"names":["getpriority"],"action":"SCMP_ACT_ALLOW"},{"names":["kill"],"action":"SCMP_ACT_ERRNO","errnoRet":95,"args":[{"index":1,"value":12,"op":"SCMP_CMP_EQ"}]}]}' > $d/p.json
           run --security-opt seccomp=$d/p.json $BB sh -c 'mkdir /x; chmod 1 /tmp; ln -s a /tmp/b; echo $?; ln /etc/passwd /tmp/c; echo $?; hostname foo; echo $?; umount /tmp; sync; echo $?; kill -12 $$; kill -0 $$; echo $?; grep Seccomp /proc/self/status'"#,
    ))
    .map(drop)
}

fn sysctls() -> Outcome {
    same(&in_directory(
        r#"run --sysctl kernel.msgmax=1000 --sysctl kernel.shmmax=12345678 --sysctl net.ipv4.ip_forward=1 --sysctl fs.mqueue.msg_max=20 $BB sh -c 'cat /proc/sys/kernel/msgmax /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward /proc/sys/fs/mqueue/msg_max'"#,
    ))
    .map(drop)
}

/// What is not shared is said on standard error ([`processes_of_others`]).
fn shared_memory_of_the_host() -> Outcome {
    same(&in_directory(
        r#"run --ipc host $BB sh -c 'touch /dev/shm/life-mark; ls /dev/shm' 2>/dev/null; ls /dev/shm/life-mark; rm -f /dev/shm/life-mark"#,
    ))
    .map(drop)
}

/// Another kernel's processes and System V IPC are not the container's, and it is told (LIMITS.md).
fn processes_of_others() -> Outcome {
    let ours = sh(
        "run --pid=host $BB sh -c 'echo $$; set -- /proc/[0-9]*; echo $#'
         create_detached --name p $BB sleep 1000 >/dev/null
         run --pid=container:p --ipc=host $BB sh -c 'echo $$; ps | grep -c \"[s]leep 1000\"'
         podman rm -f -t 0 p >/dev/null",
    )?;
    let told = |words: &str| ours.stderr.matches(words).count();
    ensure(
        ours.stdout == "1\n1\n1\n0\n"
            && told("its own processes alone") == 2
            && told("System V IPC and message queues are the container's own") == 1,
        || ours.to_string(),
    )
}

/// What no flag of Podman's asks for: the same as with crun, but for clocks of its own (LIMITS.md).
fn clocks_and_priorities() -> Outcome {
    let shown =
        "uname -m; cat /proc/self/personality; ionice; cut -d ' ' -f 18,19,40,41 /proc/self/stat";
    let bundle = Bundle::new(&["sh", "-c", shown])?;
    let run = |runtime| {
        bundle.sh(
            runtime,
            "ln -sf busybox rootfs/bin/cut; ln -sf busybox rootfs/bin/ionice
             $RUNTIME run x </dev/null; echo $?",
        )
    };
    bundle.edit(|config| {
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    })?;
    for scheduler in [
        json!({"policy": "SCHED_BATCH", "nice": 7}),
        json!({"policy": "SCHED_RR", "priority": 5}),
    ] {
        bundle.edit(|config| config["process"]["scheduler"] = scheduler)?;
        let (crun, ours) = (run("crun")?, run("krun-gpu")?);
        ensure(
            crun == ours
                && ours
                    .stdout
                    .starts_with("i686\n00000008\nbest-effort: prio 6\n"),
            || format!("--- crun: {crun}\n--- krun-gpu: {ours}"),
        )?;
    }
    bundle.edit(|config| config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}}))?;
    let ours = run("krun-gpu")?;
    ensure(
        ours.stdout == "1\n" && ours.stderr.contains("linux.timeOffsets `boottime`"),
        || ours.to_string(),
    )
}

/// The guest's root is the container's cgroup in both (LIMITS.md).
fn cgroup_namespace() -> Outcome {
    same("run --cgroupns=private $BB cat /proc/self/cgroup")?;
    let ours = sh("run --cgroupns=host $BB cat /proc/self/cgroup")?;
    ensure(ours.stdout == "0::/\n", || ours.to_string())
}

fn automatic_user_namespace() -> Outcome {
    same(&in_directory(
        r#"touch $d/f; run --userns=auto -v $d:/v $BB sh -c 'id; touch /tmp/x /v/y; echo $?; stat -c "%u %g" /tmp/x /v/f'"#,
    ))
    .map(drop)
}
