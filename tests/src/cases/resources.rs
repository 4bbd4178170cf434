//! Limits: the guest sees them, and the guest's OOM killer acts on them.

use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "resources::memory",
        run: memory,
    },
    Case {
        name: "resources::out_of_memory",
        run: out_of_memory,
    },
    Case {
        name: "resources::out_of_memory_of_a_child",
        run: out_of_memory_of_a_child,
    },
    Case {
        name: "resources::cpus",
        run: cpus,
    },
    Case {
        name: "resources::boot_without_quota",
        run: boot_without_quota,
    },
    Case {
        name: "resources::cpuset",
        run: cpuset,
    },
    Case {
        name: "resources::pids",
        run: pids,
    },
];

fn memory() -> Outcome {
    let ours = same("run --memory 256m $BB cat /sys/fs/cgroup/memory.max")?;
    ensure(ours.stdout == "268435456\n", || ours.to_string())?;
    let total = sh("run --memory 256m $BB awk '/MemTotal/ {print $2}' /proc/meminfo")?;
    let kibibytes: u64 = total.stdout.trim().parse().unwrap_or(0);
    ensure((256 << 10..640 << 10).contains(&kibibytes), || {
        total.to_string()
    })
}

fn out_of_memory() -> Outcome {
    let ours = same(
        "create_detached --memory 64m --memory-swap 64m --name oom $BB sh -c 'exec tail /dev/zero' >/dev/null; podman wait oom; \
         podman inspect oom --format '{{.State.ExitCode}} {{.State.OOMKilled}}'; podman rm oom",
    )?;
    ensure(ours.stdout == "137\n137 true\noom\n", || ours.to_string())
}

fn out_of_memory_of_a_child() -> Outcome {
    let ours = same(
        "run --memory 64m --memory-swap 64m $BB sh -c 'tail /dev/zero; echo $?; echo still here' 2>/dev/null",
    )?;
    ensure(ours.stdout == "137\nstill here\n", || ours.to_string())
}

fn cpus() -> Outcome {
    let ours = sh(
        "run --cpus 2 $BB sh -c 'nproc; cat /sys/fs/cgroup/cpu.max'; run --cpus 0.5 $BB sh -c 'nproc; cat /sys/fs/cgroup/cpu.max'",
    )?;
    ensure(ours.stdout == "2\n200000 100000\n1\n50000 100000\n", || {
        ours.to_string()
    })
}

/// A quota of a fiftieth holds on the host once there is a container, and did not hold for its
/// boot, which then would take about fifty times as long.
fn boot_without_quota() -> Outcome {
    let ours = sh(
        r#"create() { podman create --runtime "$RUNTIME" --network none "$@"; }
         booted() { begin=$(date +%s%N); podman init $1 >/dev/null; echo $(($(date +%s%N) - begin)); }
         create --name free $BB true >/dev/null
         create --cpus 0.02 --name quota $BB true >/dev/null
         free=$(booted free); quota=$(booted quota)
         vmm=$(podman inspect quota --format '{{.State.Pid}}')
         cat /sys/fs/cgroup$(cut -d : -f 3 /proc/$vmm/cgroup)/cpu.max
         [ $quota -lt $((free * 6)) ] || echo free $free ns, with a quota $quota ns
         podman rm -f -t 0 free quota >/dev/null"#,
    )?;
    ensure(ours.stdout == "2000 100000\n", || ours.to_string())
}

fn cpuset() -> Outcome {
    let ours = same("run --cpuset-cpus 1 $BB nproc")?;
    ensure(ours.stdout == "1\n", || ours.to_string())
}

fn pids() -> Outcome {
    same("run --pids-limit 20 $BB cat /sys/fs/cgroup/pids.max").map(drop)
}
