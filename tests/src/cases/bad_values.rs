//! Values of config.json that make no sense: crun's status, a message that names the field or the
//! value, and nothing left behind. Rows that crun takes and we refuse are in LIMITS.md.

use serde_json::{Value, json};

use crate::harness::bundle::Bundle;
use crate::harness::{Case, Outcome, ensure};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "bad_values::process",
        run: process,
    },
    Case {
        name: "bad_values::sizes",
        run: sizes,
    },
    Case {
        name: "bad_values::mounts",
        run: mounts,
    },
    Case {
        name: "bad_values::linux",
        run: linux,
    },
    Case {
        name: "bad_values::outside_the_root",
        run: outside_the_root,
    },
];

/// A place in config.json (a JSON pointer; `/-` at its end appends), the value to put there, and
/// what the message must contain; `None` where both runtimes run the container.
type Row = (&'static str, Value, Option<&'static str>);

/// Runs every row under both.
fn check(rows: Vec<Row>) -> Outcome {
    for (pointer, value, words) in rows {
        let bundle = Bundle::new(&["true"])?;
        bundle.edit(|config| put(config, pointer, value.clone()))?;
        let run = "$RUNTIME run bad </dev/null";
        let (crun, ours) = (bundle.sh("crun", run)?, bundle.sh("krun-gpu", run)?);
        let shown = value.to_string().chars().take(60).collect::<String>();
        let describe = || format!("{pointer} = {shown}\n--- crun: {crun}\n--- krun-gpu: {ours}");
        ensure(crun.status == ours.status, describe)?;
        ensure((ours.status == 0) == words.is_none(), describe)?;
        if let Some(words) = words {
            let one_line = ours.stderr.lines().count() == 1;
            ensure(one_line && ours.stderr.contains(words), describe)?;
        }
    }
    Ok(())
}

fn put(config: &mut Value, pointer: &str, value: Value) {
    if let Some(list) = pointer.strip_suffix("/-") {
        if let Some(list) = config.pointer_mut(list).and_then(Value::as_array_mut) {
            list.push(value);
        }
    } else if let Some((parent, name)) = pointer.rsplit_once('/')
        && let Some(parent) = config.pointer_mut(parent)
    {
        parent[name] = value;
    }
}

fn process() -> Outcome {
    let limit =
        |name: &str, soft: u32, hard: u32| json!([{"type": name, "soft": soft, "hard": hard}]);
    check(vec![
        ("/process/user/uid", json!(-1), Some("process.user.uid")),
        (
            "/process/user/uid",
            json!(1_u64 << 32),
            Some("process.user.uid"),
        ),
        ("/process/user/gid", json!(-1), Some("process.user.gid")),
        (
            "/process/user/additionalGids",
            json!([-1]),
            Some("process.user.additionalGids[0]"),
        ),
        ("/process/args", json!([]), Some("process.args")),
        ("/process/args", json!([""]), Some("path ``")),
        ("/process", json!(null), Some("process")),
        ("/process/cwd", json!(null), Some("process")),
        ("/process/terminal", json!(true), Some("--console-socket")),
        (
            "/process/rlimits",
            limit("RLIMIT_NOFILE", 10, 5),
            Some("RLIMIT_NOFILE"),
        ),
        (
            "/process/rlimits",
            limit("RLIMIT_TEST", 1, 1),
            Some("RLIMIT_TEST"),
        ),
        ("/process/oomScoreAdj", json!(5000), Some("5000")),
        (
            "/process/apparmorProfile",
            json!("no-such"),
            Some("no-such"),
        ),
        (
            "/process/selinuxLabel",
            json!("label"),
            Some("process.selinuxLabel `label`"),
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_NONE"}),
            Some("SCHED_NONE"),
        ),
        (
            "/process/ioPriority",
            json!({"class": "NONE", "priority": 1}),
            Some("process.ioPriority.class"),
        ),
        // The kernel's to judge.
        ("/process/user/umask", json!(99_999), None),
    ])
}

fn sizes() -> Outcome {
    let many = |count| {
        json!(
            std::iter::once("true")
                .chain(std::iter::repeat_n("x", count))
                .collect::<Vec<_>>()
        )
    };
    let variable = |bytes| json!(format!("A={}", "x".repeat(bytes)));
    check(vec![
        (
            "/process/env/-",
            variable(5_000_000),
            Some("Argument list too long"),
        ),
        ("/process/env/-", variable(130_000), None),
        ("/process/args", many(100_000), None),
        (
            "/process/args",
            many(3_000_000),
            Some("Argument list too long"),
        ),
    ])
}

fn mounts() -> Outcome {
    let tmpfs =
        |destination: &str| json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
    let bind = |source: &str| json!({"destination": "/v", "type": "bind", "source": source, "options": ["rbind"]});
    check(vec![
        ("/mounts/-", bind("/no/such"), Some("`/no/such`")),
        ("/mounts/-", tmpfs(""), Some("destination is empty")),
        ("/mounts/-", tmpfs("rel/ative"), None),
        (
            "/mounts/-",
            json!({"destination": "/v", "type": "nosuchfs", "source": "x"}),
            Some("nosuchfs"),
        ),
        (
            "/mounts/-",
            json!({"destination": "/v", "type": "tmpfs", "source": "x", "options": ["nosuch=5"]}),
            Some("nosuch=5"),
        ),
    ])
}

fn linux() -> Outcome {
    let allow = |more: Value| {
        let mut filter = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        filter["syscalls"] = more;
        filter
    };
    let index = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}]);
    let mut listener = allow(json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]));
    listener["listenerPath"] = json!("/run/no-such-listener");
    check(vec![
        (
            "/linux/seccomp",
            allow(json!([{"names": ["nosuchcall"], "action": "SCMP_ACT_ERRNO"}])),
            None,
        ),
        ("/linux/seccomp", allow(index), Some("args.index")),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_WRONG"}),
            Some("SCMP_ACT_WRONG"),
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["NONE"]}),
            Some("NONE"),
        ),
        (
            "/linux/seccomp",
            listener,
            Some("linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY"),
        ),
        (
            "/linux/sysctl",
            json!({"kernel.nosuch": "1"}),
            Some("kernel.nosuch"),
        ),
        (
            "/linux/namespaces",
            json!([{"type": "nosuch"}]),
            Some("nosuch"),
        ),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "pid"}]),
            Some("duplicate"),
        ),
        (
            "/linux/namespaces",
            json!([{"type": "network", "path": "/no/such"}, {"type": "mount"}]),
            Some("/no/such"),
        ),
        ("/linux/maskedPaths", json!(["/no/such"]), None),
        ("/hostname", json!("x".repeat(100)), Some("hostname")),
        ("/root/path", json!("/no/such"), Some("/no/such")),
    ])
}

/// Destinations that lead out of the root by `..` or by links of the image stay inside.
fn outside_the_root() -> Outcome {
    let tmpfs =
        |destination: &str| json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
    let bind = |destination: &str| json!({"destination": destination, "type": "bind", "source": "/etc", "options": ["bind"]});
    for (mount, runs) in [
        (bind("/v/../../../../../escape"), true),
        (tmpfs("/relative/made-by-a-test"), true),
        (bind("/absolute/x"), false),
        (bind("/loop"), false),
    ] {
        let bundle = Bundle::new(&["true"])?;
        bundle.edit(|config| put(config, "/mounts/-", mount.clone()))?;
        let run = "mkdir -p rootfs/tmp; ln -s ../../../../../../../tmp rootfs/relative
                   ln -s /made-by-a-test rootfs/absolute; ln -s loop rootfs/loop
                   $RUNTIME run bad </dev/null; echo $?; ls -d /escape /tmp/made-by-a-test /made-by-a-test 2>/dev/null";
        let ours = bundle.sh("krun-gpu", run)?;
        let crun = bundle.sh("crun", &run.replace("ln -s", "ln -sfn"))?;
        let describe = || format!("{mount}\n--- crun: {crun}\n--- krun-gpu: {ours}");
        ensure(crun.stdout == ours.stdout, describe)?;
        ensure(ours.stdout == if runs { "0\n" } else { "1\n" }, describe)?;
    }
    Ok(())
}
