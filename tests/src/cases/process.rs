//! What the flags of `podman run` make of the process and its surroundings.

use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "process::environment",
        run: environment,
    },
    Case {
        name: "process::working_directory",
        run: working_directory,
    },
    Case {
        name: "process::user",
        run: user,
    },
    Case {
        name: "process::host_name",
        run: host_name,
    },
    Case {
        name: "process::entry_point",
        run: entry_point,
    },
    Case {
        name: "process::read_only_root",
        run: read_only_root,
    },
    Case {
        name: "process::tmpfs_size",
        run: tmpfs_size,
    },
    Case {
        name: "process::shm_size",
        run: shm_size,
    },
    Case {
        name: "process::limits",
        run: limits,
    },
    Case {
        name: "process::capabilities",
        run: capabilities,
    },
    Case {
        name: "process::no_new_privileges",
        run: no_new_privileges,
    },
    Case {
        name: "process::seccomp_filter_is_loaded",
        run: seccomp_filter_is_loaded,
    },
    Case {
        name: "process::devices",
        run: devices,
    },
    Case {
        name: "process::mount_table",
        run: mount_table,
    },
    Case {
        name: "process::first_of_its_namespace",
        run: first_of_its_namespace,
    },
    Case {
        name: "process::masked_paths",
        run: masked_paths,
    },
    Case {
        name: "process::no_descriptor_leaks_into_it",
        run: no_descriptor_leaks_into_it,
    },
];

fn environment() -> Outcome {
    same("run --hostname h -e A=1 -e 'B=two words' $BB env | sort").map(drop)
}

fn working_directory() -> Outcome {
    same("run -w /tmp $BB pwd; run -w /etc $BB sh -c 'ls | head -n 2'").map(drop)
}

fn user() -> Outcome {
    same("run -u 1000:1000 $BB id; run -u user $BB id; run -u 1000:1000 --group-add 2000 $BB id; run -u 5000 $BB id")
        .map(drop)
}

fn host_name() -> Outcome {
    same("run --hostname my-name $BB sh -c 'hostname; cat /etc/hostname; cat /proc/sys/kernel/hostname'").map(drop)
}

fn entry_point() -> Outcome {
    same("run --entrypoint /bin/echo $BB a b; run --entrypoint '[\"/bin/echo\",\"x\"]' $BB c")
        .map(drop)
}

fn read_only_root() -> Outcome {
    same("run --read-only $BB sh -c 'echo a > /x; echo $?; touch /tmp/y; echo $?'").map(drop)
}

fn tmpfs_size() -> Outcome {
    same(
        "run --tmpfs /t:size=8m $BB sh -c 'df -k /t | tail -n 1 | awk \"{print \\$2, \\$6}\"; \
         head -c 9000000 /dev/zero > /t/f; echo $?; stat -c %a /t; grep \"^tmpfs /t \" /proc/mounts | cut -d, -f1'",
    )
    .map(drop)
}

fn shm_size() -> Outcome {
    same("run --shm-size 4m $BB sh -c 'df -k /dev/shm | tail -n 1 | awk \"{print \\$2}\"; echo a > /dev/shm/f && cat /dev/shm/f'").map(drop)
}

fn limits() -> Outcome {
    same("run --ulimit nofile=321:654 --ulimit core=0 $BB sh -c 'ulimit -n; ulimit -Hn; ulimit -c'")
        .map(drop)
}

fn capabilities() -> Outcome {
    same(
        "run $BB grep ^Cap /proc/self/status
         run --cap-add SYS_ADMIN --cap-drop CHOWN $BB grep ^Cap /proc/self/status
         run --cap-drop all $BB grep ^Cap /proc/self/status
         run -u 1000 $BB grep ^Cap /proc/self/status",
    )
    .map(drop)
}

fn no_new_privileges() -> Outcome {
    same("run --security-opt no-new-privileges $BB grep NoNewPrivs /proc/self/status").map(drop)
}

fn seccomp_filter_is_loaded() -> Outcome {
    let ours = same(
        "run $BB grep ^Seccomp: /proc/self/status; run --security-opt seccomp=unconfined $BB grep ^Seccomp: /proc/self/status",
    )?;
    ensure(ours.stdout == "Seccomp:\t2\nSeccomp:\t0\n", || {
        ours.to_string()
    })
}

fn devices() -> Outcome {
    same("run $BB sh -c 'ls -l /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty | awk \"{print \\$1, \\$5, \\$6, \\$10}\"; readlink /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx'").map(drop)
}

fn mount_table() -> Outcome {
    // The guest's kernel has neither /proc/acpi nor /proc/kcore to mask.
    same("run $BB sh -c 'cut -d\" \" -f2,3 /proc/mounts | grep -vE \"^(/ |/etc/|/run/|/proc/acpi |/proc/kcore )\" | sort'")
        .map(drop)
}

fn first_of_its_namespace() -> Outcome {
    // The shell itself counts: a pipeline's processes may or may not be there yet.
    same("run $BB sh -c 'echo $$; tr \"\\0\" \" \" < /proc/1/cmdline; echo; set -- /proc/[0-9]*; echo $#; cat /proc/self/cgroup'").map(drop)
}

fn masked_paths() -> Outcome {
    same("run $BB sh -c 'wc -c < /proc/timer_list; wc -c < /proc/keys; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/sysrq; echo $?' 2>/dev/null").map(drop)
}

fn no_descriptor_leaks_into_it() -> Outcome {
    let ours = sh("run $BB sh -c 'ls /proc/1/fd | tr \"\\n\" \" \"'")?;
    ensure(ours.stdout == "0 1 2 ", || ours.to_string())
}
