//! `krun-gpu check`, `--version`, `features`, `spec`, `list`: what users call by hand.

use serde_json::Value;

use crate::harness::{Case, Outcome, ensure, fail, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "check::this_machine_is_good",
        run: this_machine_is_good,
    },
    Case {
        name: "check::says_what_is_missing",
        run: says_what_is_missing,
    },
    Case {
        name: "check::version",
        run: version,
    },
    Case {
        name: "check::features_and_spec_are_json",
        run: features_and_spec_are_json,
    },
    Case {
        name: "check::list_and_state",
        run: list_and_state,
    },
];

fn this_machine_is_good() -> Outcome {
    let ours = sh("krun-gpu check && krun-gpu check --json")?;
    ensure(ours.status == 0, || ours.to_string())
}

fn says_what_is_missing() -> Outcome {
    let ours =
        sh("setpriv --reuid 4000 --regid 4000 --clear-groups krun-gpu check; echo status $?")?;
    ensure(
        ours.stdout.contains("/dev/kvm")
            && ours.stdout.contains("kvm group")
            && !ours.stdout.contains("status 0"),
        || ours.to_string(),
    )
}

fn version() -> Outcome {
    let ours = sh("krun-gpu --version")?;
    let mut lines = ours.stdout.lines();
    ensure(
        lines
            .next()
            .is_some_and(|line| line.starts_with("krun-gpu version "))
            && ours.stdout.contains("\nspec: 1.")
            && ours.stdout.contains("+KVM"),
        || ours.to_string(),
    )
}

fn features_and_spec_are_json() -> Outcome {
    let features: Value = serde_json::from_str(&sh("krun-gpu features")?.stdout)?;
    ensure(
        features["ociVersionMax"].is_string() && features["hooks"].is_array(),
        || features.to_string(),
    )?;
    let spec = sh("cd $(mktemp -d) && krun-gpu spec && cat config.json")?;
    let config: Value = serde_json::from_str(&spec.stdout)?;
    ensure(config["process"]["args"].is_array(), || spec.to_string())
}

fn list_and_state() -> Outcome {
    let ours = sh("create_detached --name l $BB sleep 1000 >/dev/null; id=$(podman inspect l --format '{{.Id}}')
        krun-gpu state $id; krun-gpu list -q | grep -c $id >&2; podman rm -f -t 0 l >/dev/null")?;
    let state: Value = serde_json::from_str(&ours.stdout).unwrap_or_default();
    if state["status"] != "running" || !state["pid"].is_number() || ours.stderr.trim() != "1" {
        return fail(ours.to_string());
    }
    Ok(())
}
