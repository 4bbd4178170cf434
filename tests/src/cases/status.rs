//! Exit statuses: the workload's own, a signal's, and those of programs that cannot run.

use crate::harness::{Case, Outcome, ensure, same};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "status::missing_program",
        run: missing_program,
    },
    Case {
        name: "status::missing_path",
        run: missing_path,
    },
    Case {
        name: "status::plain_file",
        run: plain_file,
    },
    Case {
        name: "status::directory",
        run: directory,
    },
    Case {
        name: "status::missing_cwd",
        run: missing_cwd,
    },
    Case {
        name: "status::killed_by_podman",
        run: killed_by_podman,
    },
    Case {
        name: "status::own_signals",
        run: own_signals,
    },
    Case {
        name: "status::child_signal_seen_by_parent",
        run: child_signal_seen_by_parent,
    },
    Case {
        name: "status::the_workloads_own_numbers",
        run: the_workloads_own_numbers,
    },
];

fn missing_program() -> Outcome {
    let ours = same("run $BB no-such-program")?;
    ensure(ours.status == 127, || ours.to_string())
}

fn missing_path() -> Outcome {
    let ours = same("run $BB /no/such/program")?;
    ensure(ours.status == 127, || ours.to_string())
}

fn plain_file() -> Outcome {
    let ours = same("run $BB /etc/plain")?;
    ensure(ours.status == 126, || ours.to_string())
}

fn directory() -> Outcome {
    same("run $BB /etc").map(drop)
}

fn missing_cwd() -> Outcome {
    same("run -w /no/such/directory $BB pwd").map(drop)
}

fn killed_by_podman() -> Outcome {
    let ours = same(
        "create_detached --name victim $BB sleep 1000 >/dev/null
         podman kill victim >/dev/null; podman wait victim; podman rm victim",
    )?;
    ensure(ours.stdout == "137\nvictim\n", || ours.to_string())
}

fn own_signals() -> Outcome {
    // As PID 1 of its namespace a process cannot kill itself by default actions: neither under crun.
    same("run --init $BB sh -c 'sh -c \"kill -SEGV \\$\\$\"; echo $?'")?;
    same("run $BB sh -c 'kill -TERM $$; echo alive'").map(drop)
}

fn child_signal_seen_by_parent() -> Outcome {
    let ours = same(
        "run $BB sh -c 'for s in HUP TERM KILL SEGV USR1; do sh -c \"kill -$s \\$\\$\"; echo $s $?; done 2>/dev/null'",
    )?;
    ensure(
        ours.stdout.contains("KILL 137\n") && ours.stdout.contains("TERM 143\n"),
        || ours.to_string(),
    )
}

fn the_workloads_own_numbers() -> Outcome {
    same("for n in 1 125 127 255; do run $BB sh -c \"exit $n\"; echo $?; done").map(drop)
}
