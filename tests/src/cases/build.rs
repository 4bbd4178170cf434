//! `podman build`: every RUN step is a VM.

use crate::harness::{Case, Outcome, ensure, sh};

pub(super) const CASES: &[Case] = &[Case {
    name: "build::run_steps",
    run: run_steps,
}];

fn run_steps() -> Outcome {
    let ours = sh("dir=$(mktemp -d); trap 'rm -rf $dir' EXIT
        printf 'FROM localhost/busybox\\nRUN uname -r > /kernel\\nRUN echo second >> /kernel && mkdir /made\\nUSER user\\nRUN id -un > /tmp/who\\nCMD cat /kernel /tmp/who\\n' > $dir/Containerfile
        podman build --quiet --runtime $(command -v $RUNTIME) --network none --isolation oci -t localhost/built $dir >/dev/null && run localhost/built
        status=$?; podman rmi -f localhost/built >/dev/null 2>&1; exit $status")?;
    let lines: Vec<&str> = ours.stdout.lines().collect();
    ensure(
        matches!(lines[..], [kernel, "second", "user"] if kernel.ends_with("-krun-gpu")),
        || ours.to_string(),
    )
}
