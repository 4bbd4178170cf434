//! What programs that call the runtime rely on: the form of what it prints, by runtime-spec's own
//! schemas, and the command lines of containerd's shim (go-runc), without an engine between.

use serde_json::Value;

use crate::harness::bundle::Bundle;
use crate::harness::schema::conforms;
use crate::harness::{Case, Outcome, ensure, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "contract::schemas",
        run: schemas,
    },
    Case {
        name: "contract::containerd",
        run: containerd,
    },
];

/// `features`, the configuration that `spec` makes, and the states of a container's life.
fn schemas() -> Outcome {
    let json = |text: &str| serde_json::from_str::<Value>(text);
    conforms("features", &json(&sh("krun-gpu features")?.stdout)?)?;
    let config = sh("cd $(mktemp -d) && krun-gpu spec && cat config.json")?;
    conforms("config", &json(&config.stdout)?)?;
    let states = Bundle::new(&["sleep", "1000"])?.sh(
        "krun-gpu",
        "$RUNTIME create x </dev/null >/dev/null 2>&1; $RUNTIME state x | jq -c; $RUNTIME start x
         $RUNTIME state x | jq -c; $RUNTIME kill x KILL
         until $RUNTIME state x | grep -q '\"stopped\"'; do sleep 0.1; done
         $RUNTIME state x | jq -c; $RUNTIME delete x",
    )?;
    let mut statuses = Vec::new();
    for line in states.stdout.lines() {
        let state = json(line)?;
        conforms("state", &state)?;
        statuses.push(state["status"].clone());
    }
    ensure(statuses == ["created", "running", "stopped"], || {
        states.to_string()
    })
}

/// Every call of go-runc's that Linux containers get, in an order in which the shim makes them.
/// `r` gives the global flags; `until_stopped` is what the shim learns as the subreaper.
const CALLS: &str = r#"
mkdir root
r() { $RUNTIME --root $PWD/root --log $PWD/log --log-format json "$@"; }
until_stopped() { until r state x | grep -q '"stopped"'; do sleep 0.1; done; }
process() { jq ".process | .args = [\"sh\", \"-c\", \"$1\"]" config.json >process.json; }
r create --bundle $PWD --pid-file $PWD/pid x </dev/null >out 2>&1; echo create $?
[ $(cat pid) = $(r state x | jq .pid) ] && echo the same pid
r state x | jq -c "[.id, .status, .bundle == \"$PWD\"]"
r start x; echo start $?; r list --format json | jq -c 'map([.id, .status])'
process 'echo in exec; echo err >&2; exit 3'
r exec --process process.json x; echo exec $?
process 'echo detached; cat /sys/fs/cgroup/pids.max'
gone() { [ ! -d /proc/$1 ] || grep -qs '^State:.Z' /proc/$1/status; }
detached() { r exec --process process.json --detach --pid-file $PWD/pid2 x </dev/null >out2 2>&1; echo exec --detach $?
    until gone $(cat pid2); do sleep 0.1; done; cat out2; }
detached
echo '{"pids": {"limit": 44}}' | r update --resources=- x; echo update $?; detached
r ps --format json x | jq 'length > 0'
r pause x; r state x | jq -r .status; r resume x; r state x | jq -r .status
r kill x 0; echo kill $?; r kill x 15; echo kill $?; until_stopped; cat out
r kill x 9; echo kill $?; tail -n 1 log | jq -r .level
r exec --process process.json x; echo exec $?
r delete x; echo delete $?; r state x; echo state $?; r delete --force x; echo delete --force $?
r create --bundle $PWD --pid-file $PWD/pid x </dev/null >out 2>&1; r start x; r kill --all x 9; echo kill --all $?
until_stopped; r delete --force x; echo delete --force $?; ls root; r list --format json | jq -c
"#;

/// The same lines and statuses as with crun.
fn containerd() -> Outcome {
    let run = |runtime| {
        Bundle::new(&[
            "sh",
            "-c",
            "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.1; done",
        ])?
        .sh(runtime, CALLS)
    };
    let (crun, ours) = (run("crun")?, run("krun-gpu")?);
    ensure(
        ours.stdout == crun.stdout && ours.stdout.contains("up\nterm\n"),
        || format!("--- crun: {crun}\n--- krun-gpu: {ours}"),
    )
}
