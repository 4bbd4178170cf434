//! The render server, its supervisor or the VMM killed, and a container in the middle of GPU work:
//! what goes is the container's own GPU.

use super::script;
use crate::harness::{Case, Outcome, ensure};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gpu::render_server_killed",
        run: render_server_killed,
    },
    Case {
        name: "gpu::supervisor_killed",
        run: supervisor_killed,
    },
    Case {
        name: "gpu::vmm_killed",
        run: vmm_killed,
    },
];

/// Kills what `pattern` matches, and looks at the container afterwards.
fn killed(pattern: &str, words: &str) -> Outcome {
    let ours = script(&format!(
        "create_detached --device /dev/dri --name k $V sleep 1000 >/dev/null
         podman exec k vulkaninfo --summary | grep -c Venus
         pkill -9 -o -f '{pattern}'; sleep 1
         pgrep -x virgl_render_se
         podman exec k echo lives
         podman exec k vulkaninfo --summary >/dev/null 2>&1 || echo lost
         podman logs k 2>&1; podman rm -f -t 0 k >/dev/null"
    ))?;
    ensure(
        ours.stdout.starts_with("1\nlives\nlost\n") && ours.stdout.contains(words),
        || ours.to_string(),
    )
}

fn render_server_killed() -> Outcome {
    killed(
        "^/usr/libexec/virgl_render_server",
        "render server is gone: it was killed by signal 9",
    )
}

fn supervisor_killed() -> Outcome {
    killed("[g]pu-server", "render server is gone")
}

fn vmm_killed() -> Outcome {
    let ours = script(
        "create_detached --device /dev/dri --name v $V sleep 1000 >/dev/null
         kill -9 $(podman inspect v --format '{{.State.Pid}}')
         podman wait v; sleep 0.5; pgrep -f '[v]irgl_render_server'; podman rm v",
    )?;
    ensure(ours.stdout == "137\nv\n", || ours.to_string())
}
