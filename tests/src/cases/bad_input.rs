//! Bad input, straight to the runtime: a clear error, crun's status, nothing left behind.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::harness::bundle::Bundle;
use crate::harness::{Case, Outcome, Output, ensure, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "bad_input::config_missing",
        run: config_missing,
    },
    Case {
        name: "bad_input::config_truncated",
        run: config_truncated,
    },
    Case {
        name: "bad_input::wrong_version",
        run: wrong_version,
    },
    Case {
        name: "bad_input::unknown_capability",
        run: unknown_capability,
    },
    Case {
        name: "bad_input::relative_cwd",
        run: relative_cwd,
    },
    Case {
        name: "bad_input::no_root_file_system",
        run: no_root_file_system,
    },
    Case {
        name: "bad_input::id_in_use",
        run: id_in_use,
    },
    Case {
        name: "bad_input::id_with_slashes",
        run: id_with_slashes,
    },
    Case {
        name: "bad_input::start_twice",
        run: start_twice,
    },
    Case {
        name: "bad_input::delete_while_running",
        run: delete_while_running,
    },
    Case {
        name: "bad_input::state_of_nothing",
        run: state_of_nothing,
    },
    Case {
        name: "bad_input::kvm_missing",
        run: kvm_missing,
    },
    Case {
        name: "bad_input::kvm_forbidden",
        run: kvm_forbidden,
    },
    Case {
        name: "bad_input::kernel_missing",
        run: kernel_missing,
    },
    Case {
        name: "bad_input::kernel_corrupt",
        run: kernel_corrupt,
    },
    Case {
        name: "bad_input::too_little_memory",
        run: too_little_memory,
    },
    Case {
        name: "bad_input::annotation_not_a_number",
        run: annotation_not_a_number,
    },
    Case {
        name: "bad_input::log_is_one_object",
        run: log_is_one_object,
    },
    Case {
        name: "bad_input::unknown_device",
        run: unknown_device,
    },
    Case {
        name: "bad_input::device_of_the_network",
        run: device_of_the_network,
    },
];

/// Runs a changed bundle under crun and ours; the statuses agree, and ours names `words`.
fn refused(change: impl Fn(&mut Value), words: &[&str]) -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    bundle.edit(change)?;
    refused_as_is(&bundle, "run bad", words)
}

fn refused_as_is(bundle: &Bundle, command: &str, words: &[&str]) -> Outcome {
    let crun = bundle.sh("crun", &format!("$RUNTIME {command}"))?;
    let ours = bundle.sh("krun-gpu", &format!("$RUNTIME {command}"))?;
    ensure(crun.status != 0, || format!("crun takes it: {crun}"))?;
    ensure(crun.status == ours.status, || {
        format!("--- crun: {crun}\n--- krun-gpu: {ours}")
    })?;
    names(&ours, words)
}

fn names(ours: &Output, words: &[&str]) -> Outcome {
    ensure(ours.status != 0, || format!("taken: {ours}"))?;
    ensure(words.iter().all(|word| ours.stderr.contains(word)), || {
        format!("does not name {words:?}: {ours}")
    })?;
    ensure(
        ours.stderr.lines().count() == 1 && !ours.stderr.contains("panicked"),
        || format!("one line: {ours}"),
    )
}

fn run_bundle(script: &str) -> Result<Output, Failed> {
    Bundle::new(&["true"])?.sh("krun-gpu", script)
}

fn config_missing() -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    std::fs::remove_file(bundle.config())?;
    refused_as_is(&bundle, "run bad", &["config.json"])
}

fn config_truncated() -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    let text = std::fs::read_to_string(bundle.config())?;
    std::fs::write(bundle.config(), &text[..text.len() / 2])?;
    refused_as_is(&bundle, "run bad", &["config.json"])
}

fn wrong_version() -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    bundle.edit(|config| config["ociVersion"] = json!("7.0.0"))?;
    names(
        &bundle.sh("krun-gpu", "$RUNTIME run bad")?,
        &["ociVersion", "7.0.0"],
    )
}

fn unknown_capability() -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    bundle.edit(|config| config["process"]["capabilities"]["bounding"] = json!(["CAP_NO_SUCH"]))?;
    names(
        &bundle.sh("krun-gpu", "$RUNTIME run bad")?,
        &["CAP_NO_SUCH"],
    )
}

fn relative_cwd() -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    bundle.edit(|config| config["process"]["cwd"] = json!("tmp"))?;
    names(&bundle.sh("krun-gpu", "$RUNTIME run bad")?, &["cwd", "tmp"])
}

fn no_root_file_system() -> Outcome {
    refused(
        |config| config["root"]["path"] = json!("not-there"),
        &["root", "not-there"],
    )
}

fn id_in_use() -> Outcome {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let ours = bundle.sh(
        "krun-gpu",
        "$RUNTIME create twice </dev/null >/dev/null 2>&1; $RUNTIME create twice; echo $?; $RUNTIME delete --force twice",
    )?;
    ensure(
        ours.stdout == "1\n" && ours.stderr.contains("twice") && ours.stderr.contains("exists"),
        || ours.to_string(),
    )
}

fn id_with_slashes() -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    for id in ["a/b", "..", "../x", "."] {
        names(
            &bundle.sh("krun-gpu", &format!("$RUNTIME run {id}"))?,
            &[id],
        )?;
    }
    Ok(())
}

fn start_twice() -> Outcome {
    let script = "$RUNTIME create s </dev/null >/dev/null 2>&1; $RUNTIME start s; echo $?; $RUNTIME start s; echo $?; $RUNTIME delete --force s";
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let crun = bundle.sh("crun", script)?;
    let ours = bundle.sh("krun-gpu", script)?;
    ensure(
        crun.stdout == ours.stdout && ours.stderr.contains('s'),
        || format!("{crun}\n{ours}"),
    )
}

fn delete_while_running() -> Outcome {
    let script = "$RUNTIME create d </dev/null >/dev/null 2>&1; $RUNTIME start d; $RUNTIME delete d; echo $?; $RUNTIME state d | grep -c running; $RUNTIME delete --force d";
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let crun = bundle.sh("crun", script)?;
    let ours = bundle.sh("krun-gpu", script)?;
    ensure(
        crun.stdout == ours.stdout && ours.stderr.contains("running"),
        || format!("{crun}\n{ours}"),
    )
}

fn state_of_nothing() -> Outcome {
    for verb in [
        "state nothing",
        "start nothing",
        "kill nothing",
        "delete nothing",
    ] {
        refused_as_is(&Bundle::new(&["true"])?, verb, &["nothing"])?;
    }
    Ok(())
}

fn kvm_missing() -> Outcome {
    let ours = run_bundle(
        "mv /dev/kvm /dev/kvm-away; $RUNTIME run bad; status=$?; mv /dev/kvm-away /dev/kvm; exit $status",
    )?;
    names(&ours, &["/dev/kvm"])
}

fn kvm_forbidden() -> Outcome {
    let ours = run_bundle(
        "chmod 0755 $PWD; setpriv --reuid 4000 --regid 4000 --clear-groups env XDG_RUNTIME_DIR=$(mktemp -d -p /tmp) true; \
         setpriv --reuid 4000 --regid 4000 --clear-groups $RUNTIME --root /tmp/kvm-forbidden run bad; status=$?; rm -rf /tmp/kvm-forbidden; exit $status",
    )?;
    names(&ours, &["/dev/kvm", "kvm group"])
}

const KERNEL: &str = "/usr/local/lib/krun-gpu/vmlinux";

fn kernel_missing() -> Outcome {
    let ours = run_bundle(&format!(
        "mv {KERNEL} {KERNEL}-away; $RUNTIME run bad; status=$?; mv {KERNEL}-away {KERNEL}; exit $status"
    ))?;
    names(&ours, &["vmlinux"])
}

fn kernel_corrupt() -> Outcome {
    let ours = run_bundle(&format!(
        "mv {KERNEL} {KERNEL}-away; head -c 100000 /dev/urandom > {KERNEL}; $RUNTIME run bad; status=$?; mv {KERNEL}-away {KERNEL}; exit $status"
    ))?;
    names(&ours, &["kernel"])
}

fn too_little_memory() -> Outcome {
    let ours = sh("run --memory 8m $BB true")?;
    ensure(
        ours.status != 0 && ours.stderr.contains("memory") && ours.stderr.contains("8388608"),
        || ours.to_string(),
    )
}

fn annotation_not_a_number() -> Outcome {
    for (key, value) in [
        ("io.krun-gpu.cpus", "many"),
        ("krun.cpus", "0"),
        ("krun.ram_mib", "-5"),
        ("io.krun-gpu.memory", "x"),
    ] {
        let ours = sh(&format!("run --annotation {key}={value} $BB true"))?;
        ensure(
            ours.status != 0 && ours.stderr.contains(key) && ours.stderr.contains(value),
            || ours.to_string(),
        )?;
    }
    Ok(())
}

fn log_is_one_object() -> Outcome {
    let bundle = Bundle::new(&["no-such-program"])?;
    let ours = bundle.sh(
        "krun-gpu",
        "$RUNTIME --log-format json --log l create x 2>/dev/null; cat l",
    )?;
    let log: Value = serde_json::from_str(&ours.stdout)
        .map_err(|error| Failed::from(format!("{error}: {ours}")))?;
    ensure(
        log["level"] == "error" && log["msg"].is_string() && log["time"].is_string(),
        || log.to_string(),
    )
}

fn unknown_device() -> Outcome {
    let ours = sh(
        "mknod /dev/strange c 240 7; run --device /dev/strange $BB true; status=$?; rm /dev/strange; exit $status",
    )?;
    ensure(
        ours.status != 0 && ours.stderr.contains("/dev/strange"),
        || ours.to_string(),
    )
}

/// crun knows the field since 1.22, and moves the device (LIMITS.md).
fn device_of_the_network() -> Outcome {
    let bundle = Bundle::new(&["true"])?;
    bundle.edit(|config| config["linux"]["netDevices"] = json!({"eth7": {"name": "inside"}}))?;
    names(
        &bundle.sh("krun-gpu", "$RUNTIME run bad")?,
        &["linux.netDevices `eth7`", "is not moved into a VM"],
    )
}
