//! Detached containers and the verbs that act on them.

use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "lifecycle::detached",
        run: detached,
    },
    Case {
        name: "lifecycle::logs_follow",
        run: logs_follow,
    },
    Case {
        name: "lifecycle::stop_reaches_the_handler",
        run: stop_reaches_the_handler,
    },
    Case {
        name: "lifecycle::signals_reach_the_workload",
        run: signals_reach_the_workload,
    },
    Case {
        name: "lifecycle::restart",
        run: restart,
    },
    Case {
        name: "lifecycle::two_at_once",
        run: two_at_once,
    },
    Case {
        name: "lifecycle::remove_created",
        run: remove_created,
    },
    Case {
        name: "lifecycle::idle_vm_uses_no_cpu",
        run: idle_vm_uses_no_cpu,
    },
];

fn detached() -> Outcome {
    same(
        "create_detached --name d $BB sh -c 'echo one; exit 5' >/dev/null; podman wait d; podman logs d; \
         podman inspect d --format '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}'; podman rm d",
    )
    .map(drop)
}

fn logs_follow() -> Outcome {
    same("create_detached --name f $BB sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done' >/dev/null; podman logs -f f; podman rm -f -t 0 f")
        .map(drop)
}

fn stop_reaches_the_handler() -> Outcome {
    let script = "create_detached --name s $BB sh -c 'trap \"echo got it; exit 9\" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
         until podman logs s | grep -q ready; do sleep 0.1; done
         start=$(date +%s); podman stop -t 60 s; [ $(($(date +%s) - start)) -lt 30 ] && echo in time
         podman wait s; podman logs s; podman rm s";
    let ours = same(script)?;
    ensure(
        ours.stdout.contains("in time\n9\n") && ours.stdout.contains("got it"),
        || ours.to_string(),
    )
}

fn signals_reach_the_workload() -> Outcome {
    let ours = same(
        "create_detached --name k $BB sh -c 'trap \"echo hup\" HUP; trap \"echo usr1; exit 3\" USR1; echo ready; while :; do sleep 0.1; done' >/dev/null
         until podman logs k | grep -q ready; do sleep 0.1; done
         podman kill -s HUP k; until podman logs k | grep -q hup; do sleep 0.1; done
         podman kill -s USR1 k; podman wait k; podman logs k; podman rm k",
    )?;
    ensure(ours.stdout.contains("ready\nhup\nusr1\n"), || {
        ours.to_string()
    })
}

fn restart() -> Outcome {
    same(
        "create_detached --name r $BB sh -c 'echo run >> /count; wc -l < /count; sleep 1000' >/dev/null
         until podman logs r | grep -q 1; do sleep 0.1; done; podman restart -t 0 r
         until podman logs r | grep -q 2; do sleep 0.1; done; podman rm -f -t 0 r",
    )
    .map(drop)
}

fn two_at_once() -> Outcome {
    let ours = sh(
        "create_detached --name a $BB sh -c 'hostname > /tmp/h; sleep 1000' >/dev/null; create_detached --name b $BB sleep 1000 >/dev/null
         podman kill a >/dev/null; podman wait a; podman inspect b --format '{{.State.Status}}'; podman rm -f -t 0 a b >/dev/null",
    )?;
    ensure(ours.stdout == "137\nrunning\n", || ours.to_string())
}

fn remove_created() -> Outcome {
    same("podman create --name c --runtime $RUNTIME --network none $BB true >/dev/null; podman init c; podman rm -f -t 0 c; podman ps -aq").map(drop)
}

fn idle_vm_uses_no_cpu() -> Outcome {
    // A tick is charged to whoever runs when the timer fires, and the guest's last boot work takes
    // a moment, so one of several windows must be clean; a thread that polls has none.
    let ours = sh("create_detached --name idle $BB sleep 1000 >/dev/null; sleep 3
         pid=$(podman inspect idle --format '{{.State.Pid}}')
         ticks() { for t in /proc/$pid/task/*; do name=$(cat $t/comm); case $name in vcpu*) ;; *) cut -d' ' -f14,15 $t/stat | tr ' ' '\\n';; esac; done| paste -sd+; }
         for window in 1 2 3 4 5 6; do
            a=$(ticks); sleep 5; b=$(ticks); echo \"$b\" \"$a\"
            if [ \"$a\" = \"$b\" ]; then echo idle; break; fi
         done; podman rm -f -t 0 idle >/dev/null")?;
    ensure(ours.stdout.ends_with("idle\n"), || ours.to_string())
}
