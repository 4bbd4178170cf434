//! Hooks of every kind, and what else the runtime leaves for its caller to read: what the
//! conformance suite runs without looking at the outcome.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::harness::bundle::Bundle;
use crate::harness::{Case, Outcome, ensure};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "hooks::order_and_environment",
        run: order_and_environment,
    },
    Case {
        name: "hooks::poststart_fails",
        run: poststart_fails,
    },
    Case {
        name: "hooks::pid_file",
        run: pid_file,
    },
    Case {
        name: "hooks::features",
        run: features,
    },
];

/// Kinds of hooks that run on the host, in no order.
const ON_THE_HOST: [&str; 5] = [
    "poststop",
    "createContainer",
    "poststart",
    "createRuntime",
    "prestart",
];

/// Appends a line to the file `order` in the directory `$2`: its name, the state that it reads,
/// its environment but what shells add.
const HOOK: &str = r#"#!/bin/sh
state=$(cat)
word() { echo "$state" | sed "s/.*\"$1\": *\"\([a-z]*\)\".*/\1/"; }
echo "$1 $(word status) $(word id) [$(env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= | sort | tr '\n' ' ')]" >> $2/order
"#;

/// What runs a container from its making to its end; every hook and the process itself append to
/// one file, which is in the root of the container.
const LIFE: &str = "order=rootfs/order; rm -f $order
    $RUNTIME create x; echo create $? >> $order; $RUNTIME start x; echo start $? >> $order
    until $RUNTIME state x | grep -q '\"stopped\"'; do sleep 0.1; done
    $RUNTIME delete --force x; echo delete $? >> $order; cat $order";

/// A bundle with two hooks of each kind: one with an environment and one without.
fn bundle(process: &str) -> Result<Bundle, Failed> {
    let bundle = Bundle::new(&["sh", "-c", process])?;
    let made = bundle.sh(
        "crun",
        &format!(
            "cat > hook <<'EOF'\n{HOOK}EOF\nchmod +x hook; mkdir rootfs/hooks; cp hook rootfs/hooks
             for name in sed grep sort tr env; do ln -s busybox rootfs/bin/$name; done"
        ),
    )?;
    ensure(made.status == 0, || made.to_string())?;
    let path = bundle.path().display().to_string();
    bundle.edit(|config| {
        config["root"]["readonly"] = json!(false);
        config["hooks"] = json!({});
        for kind in ON_THE_HOST {
            config["hooks"][kind] = two(kind, &format!("{path}/hook"), &format!("{path}/rootfs"));
        }
        config["hooks"]["startContainer"] = two("startContainer", "/hooks/hook", "");
    })?;
    Ok(bundle)
}

fn two(kind: &str, path: &str, folder: &str) -> Value {
    let name = format!("{kind}2");
    json!([
        {"path": path, "args": ["hook", kind, folder], "env": ["PATH=/usr/bin:/bin", "KIND=one"]},
        {"path": path, "args": ["hook", name, folder]}
    ])
}

/// What each reads is what it reads under crun, which says `starting` before a container has started
/// (the specification has no such word), gives a hook without an environment its own (LIMITS.md)
/// and does not wait for the startContainer hooks with the poststart ones.
fn order_and_environment() -> Outcome {
    let bundle = bundle("echo process >> /order")?;
    let crun = bundle.sh("crun", LIFE)?;
    let ours = bundle.sh("krun-gpu", LIFE)?;
    let mut theirs: Vec<String> = crun.stdout.lines().map(as_ours).collect();
    let mut lines: Vec<&str> = ours.stdout.lines().collect();
    // The process itself writes while the poststart hooks run, or before.
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "process")
        .collect();
    let expected = "prestart prestart2 createRuntime createRuntime2 createContainer \
                    createContainer2 create startContainer startContainer2 poststart poststart2 \
                    start poststop poststop2 delete";
    let in_order = names == expected.split(' ').collect::<Vec<_>>();
    let place = |name: &str| lines.iter().position(|line| line.starts_with(name));
    let in_time = place("process") > place("startContainer2 ");
    theirs.sort();
    lines.sort_unstable();
    ensure(in_order && in_time && theirs == lines, || {
        format!("--- crun: {crun}\n--- krun-gpu: {ours}")
    })
}

/// A line of crun's with the differences that are meant taken away.
fn as_ours(line: &str) -> String {
    let line = line
        .replace(" starting ", " created ")
        .replace("[HOME=/ ", "[");
    match line.split_once('[') {
        Some((head, _)) if head.contains("2 ") && !head.starts_with("startContainer") => {
            format!("{head}[]")
        }
        _ => line,
    }
}

/// runtime-spec 1.3: the container is stopped, `start` fails and says why, the poststop hooks run.
fn poststart_fails() -> Outcome {
    let bundle = bundle("sleep 1000")?;
    bundle.edit(|config| config["hooks"]["poststart"][0]["path"] = json!("/bin/false"))?;
    let ours = bundle.sh("krun-gpu", LIFE)?;
    let last: Vec<&str> = ours.stdout.lines().rev().take(4).collect();
    let ends = match last.as_slice() {
        ["delete 0", second, first, "start 1"] => {
            first.starts_with("poststop stopped x ") && second.starts_with("poststop2 stopped x ")
        }
        _ => false,
    };
    ensure(
        ends && !ours.stdout.contains("poststart")
            && ours.stderr.contains("poststart hook: /bin/false failed"),
        || ours.to_string(),
    )
}

/// The pid that the state has, and nothing else, in the files of `create` and `exec`.
fn pid_file() -> Outcome {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let script = "$RUNTIME create --pid-file pid x </dev/null >/dev/null 2>&1; $RUNTIME start x
        [ $(cat pid) = $($RUNTIME state x | jq .pid) ] && echo same; wc -l <pid
        $RUNTIME exec --detach --pid-file pid2 x sleep 1000; [ -d /proc/$(cat pid2) ] && echo lives; wc -l <pid2
        $RUNTIME create --pid-file /no/such/pid y </dev/null >/dev/null 2>&1; echo $?; $RUNTIME state y >/dev/null 2>&1; echo $?
        $RUNTIME delete --force x";
    let ours = bundle.sh("krun-gpu", script)?;
    let crun = bundle.sh("crun", script)?;
    ensure(crun.stdout == ours.stdout, || {
        format!("--- crun: {crun}\n--- krun-gpu: {ours}")
    })
}

/// Every member of `features` has the type that it has in crun's, as far as that knows it.
fn features() -> Outcome {
    let script = "$RUNTIME features | jq -S '[paths(type != \"object\" and type != \"array\") as $p
        | {path: ($p | map(if type == \"number\" then \"*\" else . end) | join(\"/\")), type: (getpath($p) | type)}] | unique'";
    let read = |runtime| -> Result<Vec<Value>, Failed> {
        let output = crate::harness::command::sh_with(runtime, script)?;
        Ok(serde_json::from_str(&output.stdout)?)
    };
    let (crun, ours) = (read("crun")?, read("krun-gpu")?);
    ensure(ours.len() > 15, || format!("{ours:?}"))?;
    for member in &ours {
        let known = crun.iter().find(|known| known["path"] == member["path"]);
        ensure(known.is_none_or(|known| known == member), || {
            format!("crun has {known:?}, we {member}")
        })?;
    }
    Ok(())
}
