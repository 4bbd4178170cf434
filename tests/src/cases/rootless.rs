//! The first rows again, as an ordinary user in the kvm group.

use libtest_mimic::Failed;

use crate::harness::command::sh_as_user;
use crate::harness::{Case, Outcome, Output, ensure, images};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "rootless::kernel",
        run: kernel,
    },
    Case {
        name: "rootless::streams_and_status",
        run: streams_and_status,
    },
    Case {
        name: "rootless::input",
        run: input,
    },
    Case {
        name: "rootless::missing_program",
        run: missing_program,
    },
    Case {
        name: "rootless::killed",
        run: killed,
    },
    Case {
        name: "rootless::keeps_its_id",
        run: keeps_its_id,
    },
];

fn user(script: &str) -> Result<Output, Failed> {
    images::busybox_of_user()?;
    sh_as_user("krun-gpu", script)
}

fn kernel() -> Outcome {
    let ours = user("run $BB sh -c 'uname -r; id -u'")?;
    ensure(ours.stdout.ends_with("-krun-gpu\n0\n"), || ours.to_string())
}

fn streams_and_status() -> Outcome {
    let ours = user("run $BB sh -c 'echo out; echo err >&2; exit 42'")?;
    ensure(
        ours.stdout == "out\n" && ours.stderr == "err\n" && ours.status == 42,
        || ours.to_string(),
    )
}

fn input() -> Outcome {
    let ours =
        user("echo hi | run -i $BB cat; head -c 20000000 /dev/zero | run -i $BB cat | wc -c")?;
    ensure(ours.stdout == "hi\n20000000\n" && ours.status == 0, || {
        ours.to_string()
    })
}

fn missing_program() -> Outcome {
    let ours = user("run $BB no-such-program; echo $?; run $BB /etc/plain; echo $?")?;
    ensure(
        ours.stdout == "127\n126\n"
            && ours
                .stderr
                .contains("executable file `no-such-program` not found"),
        || ours.to_string(),
    )
}

fn killed() -> Outcome {
    let ours = user(
        "create_detached --name u $BB sleep 1000 >/dev/null; podman kill u >/dev/null; podman wait u; podman rm u >/dev/null
         run $BB sh -c 'sh -c \"kill -KILL \\$\\$\"; echo $?' 2>/dev/null",
    )?;
    ensure(ours.stdout == "137\n137\n", || ours.to_string())
}

/// `--userns=keep-id`: the user is himself, in the container and on his volume.
fn keeps_its_id() -> Outcome {
    images::busybox_of_user()?;
    let script = "mkdir /tmp/kept; run --userns keep-id -v /tmp/kept:/v $BB sh -c 'id; touch /tmp/x /v/y; ls -ln /tmp/x | cut -c1-30'
         stat -c '%u %g %n' /tmp/kept/*; rm -r /tmp/kept";
    let crun = sh_as_user("crun", script)?;
    let ours = sh_as_user("krun-gpu", script)?;
    ensure(
        crun == ours
            && ours.stdout.contains("uid=1000(user)")
            && ours.stdout.contains("1000 1000 /tmp/kept/y"),
        || format!("--- crun: {crun}\n--- krun-gpu: {ours}"),
    )
}
