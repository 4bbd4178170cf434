//! `podman exec`: another process in the workload's namespaces, in the guest's kernel.

use crate::harness::bundle::Bundle;
use crate::harness::compare::both;
use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "exec::in_the_guest",
        run: in_the_guest,
    },
    Case {
        name: "exec::status_and_streams",
        run: status_and_streams,
    },
    Case {
        name: "exec::input",
        run: input,
    },
    Case {
        name: "exec::user_directory_environment",
        run: user_directory_environment,
    },
    Case {
        name: "exec::missing_program",
        run: missing_program,
    },
    Case {
        name: "exec::shares_the_workloads_world",
        run: shares_the_workloads_world,
    },
    Case {
        name: "exec::twenty_at_once",
        run: twenty_at_once,
    },
    Case {
        name: "exec::detached",
        run: detached,
    },
    Case {
        name: "exec::ends_with_the_container",
        run: ends_with_the_container,
    },
    Case {
        name: "exec::on_a_stopped_container",
        run: on_a_stopped_container,
    },
    Case {
        name: "exec::in_every_state",
        run: in_every_state,
    },
    Case {
        name: "exec::while_it_stops",
        run: while_it_stops,
    },
    Case {
        name: "exec::killed_on_the_host",
        run: killed_on_the_host,
    },
];

fn with_container(script: &str) -> String {
    format!(
        "create_detached --name e $BB sh -c 'echo here > /tmp/mark; sleep 1000' >/dev/null
         trap 'podman rm -f -t 0 e >/dev/null' EXIT
         until podman exec e cat /tmp/mark >/dev/null 2>&1; do sleep 0.1; done
         {script}"
    )
}

fn in_the_guest() -> Outcome {
    let ours = sh(&with_container("podman exec e uname -r"))?;
    ensure(ours.stdout.trim().ends_with("-krun-gpu"), || {
        ours.to_string()
    })
}

fn status_and_streams() -> Outcome {
    same(&with_container(
        "podman exec e sh -c 'echo out; echo err >&2; exit 17'",
    ))
    .map(drop)
}

fn input() -> Outcome {
    same(&with_container(
        "echo hi | podman exec -i e cat; echo hi | podman exec e cat; head -c 3000000 /dev/zero | podman exec -i e wc -c",
    ))
    .map(drop)
}

fn user_directory_environment() -> Outcome {
    same(&with_container(
        "podman exec -u 1000:1000 e id; podman exec -u user e id; podman exec -w /tmp e pwd; podman exec -e A=b e sh -c 'echo $A'; \
         podman exec e grep ^Cap /proc/self/status; podman exec -u 1000 e grep ^Cap /proc/self/status",
    ))
    .map(drop)
}

fn missing_program() -> Outcome {
    let ours = same(&with_container(
        "podman exec e no-such-program; echo $?; podman exec e /etc/plain; echo $?; podman exec -w /no/such e pwd; echo $?",
    ))?;
    ensure(ours.stdout.starts_with("127\n126\n"), || ours.to_string())
}

fn shares_the_workloads_world() -> Outcome {
    same(&with_container(
        "podman exec e sh -c 'tr \"\\0\" \" \" < /proc/1/cmdline; echo; cat /proc/self/cgroup; [ $(readlink /proc/self/ns/mnt) = $(readlink /proc/1/ns/mnt) ] && echo same; ps | grep -c \"[s]leep 1000\"'",
    ))
    .map(drop)
}

fn twenty_at_once() -> Outcome {
    let ours = same(&with_container(
        "for i in $(seq 20); do (podman exec e sh -c \"sleep 1; echo $i; exit $i\" > /tmp/exec-$i; echo $? >> /tmp/exec-$i) & done; wait
         for i in $(seq 20); do paste -sd' ' /tmp/exec-$i; rm /tmp/exec-$i; done",
    ))?;
    ensure(ours.stdout.ends_with("20 20\n"), || ours.to_string())
}

fn detached() -> Outcome {
    same(&with_container(
        "podman exec -d e sh -c 'echo done > /tmp/d'; until podman exec e cat /tmp/d 2>/dev/null; do sleep 0.1; done",
    ))
    .map(drop)
}

fn ends_with_the_container() -> Outcome {
    same(&with_container(
        "podman exec e sleep 1000 & sleep 2; podman kill e >/dev/null; wait $!; echo $?",
    ))
    .map(drop)
}

fn on_a_stopped_container() -> Outcome {
    same("create_detached --name gone $BB true >/dev/null; podman wait gone; podman exec gone true; echo $?; podman rm gone >/dev/null")
        .map(drop)
}

/// Of a container that is created, being started, running, stopped and gone. Under crun a created
/// one takes processes already (LIMITS.md).
fn in_every_state() -> Outcome {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let script = "$RUNTIME create x </dev/null >/dev/null 2>&1
        $RUNTIME exec x true; echo created $?
        $RUNTIME start x & until $RUNTIME exec x true 2>>failures; do :; done; wait $!; echo started $?
        $RUNTIME exec x true; echo running $?
        $RUNTIME exec x sleep 1000 & until [ $($RUNTIME ps -f json x | jq length) = 2 ]; do sleep 0.1; done
        $RUNTIME kill x KILL; wait $!; echo ended $?
        until $RUNTIME state x | grep -q '\"stopped\"'; do sleep 0.1; done
        $RUNTIME exec x true; echo stopped $?; $RUNTIME start x; echo start $?
        $RUNTIME delete x; $RUNTIME exec x true; echo deleted $?; grep -v 'is not running' failures";
    let crun = bundle.sh("crun", script)?;
    let ours = bundle.sh("krun-gpu", script)?;
    let expected = "created 0\nstarted 0\nrunning 0\nended 137\nstopped 1\nstart 1\ndeleted 1\n";
    ensure(
        crun.stdout == expected && ours.stdout == expected.replace("created 0", "created 1"),
        || format!("--- crun: {crun}\n--- krun-gpu: {ours}"),
    )
}

/// Between a signal and the end that the workload's handler comes to.
fn while_it_stops() -> Outcome {
    let ours = same(
        "create_detached --name s $BB sh -c 'trap \"echo asked; until [ -e /tmp/go ]; do sleep 0.1; done; exit 5\" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
         until podman logs s | grep -q ready; do sleep 0.1; done
         podman kill -s TERM s >/dev/null; until podman logs s | grep -q asked; do sleep 0.1; done
         podman exec s touch /tmp/go; echo $?; podman wait s; podman rm s",
    )?;
    ensure(ours.stdout == "0\n5\ns\n", || ours.to_string())
}

/// The session's process on the host is killed with -9: ours takes the session's processes along,
/// crun's leaves them to run (LIMITS.md). The container lives.
fn killed_on_the_host() -> Outcome {
    let outputs = both(&with_container(
        r#"id=$(podman inspect e --format '{{.Id}}')
           count() { podman exec e ps -o args | grep -c '^sleep 100[12]'; }
           until_count() { for i in $(seq $2); do [ "$(count)" = $1 ] && break; sleep 0.2; done; count; }
           $RUNTIME exec $id sh -c 'sleep 1001 & sleep 1002; true' >/dev/null 2>&1 & helper=$!
           until_count 2 100; kill -9 $helper; wait $helper; echo $?; until_count 0 5
           podman exec e echo goes on"#,
    ))?;
    let describe = || format!("--- crun: {}\n--- krun-gpu: {}", outputs.crun, outputs.ours);
    ensure(outputs.crun.stdout == "2\n137\n2\ngoes on\n", describe)?;
    ensure(outputs.ours.stdout == "2\n137\n0\ngoes on\n", describe)
}
