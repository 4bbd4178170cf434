//! OpenGL by way of virgl: by the host's permission and the container's wish, the image's own Mesa
//! draws with the host's driver.

use super::script;
use crate::harness::{Case, Outcome, ensure, images};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gpu::virgl",
        run: virgl,
    },
    Case {
        name: "gpu::virgl_refused",
        run: virgl_refused,
    },
];

/// The host's permission, for the rest of a script.
const ALLOW: &str = "mkdir -p /etc/krun-gpu; echo '[gpu]
virgl = true' >/etc/krun-gpu/config.toml; trap 'rm -r /etc/krun-gpu' EXIT";

/// Pixels, what the state says, and that the guest's kernel was told of Venus too.
fn virgl() -> Outcome {
    let folder = tempfile::tempdir()?;
    let program = include_str!("../../../python/on_opengl.py");
    std::fs::write(folder.path().join("program.py"), program)?;
    let ours = script(&format!(
        "{ALLOW}
         create_detached --device /dev/dri --annotation io.krun-gpu.virgl=true --name gl \
             -v {}:/program:ro --rootfs {}:O sleep 1000 >/dev/null
         krun-gpu state $(podman inspect gl --format '{{{{.Id}}}}') | jq -r .gpu.personality
         krun-gpu check | grep -o 'GPU: OpenGL: virgl'
         podman exec gl python3 /program/program.py
         podman exec gl python3 /program/program.py
         podman rm -f -t 0 gl >/dev/null; pgrep -f '[v]irgl_render_server' || echo none left",
        folder.path().display(),
        images::GL
    ))?;
    let lines: Vec<&str> = ours.stdout.lines().collect();
    ensure(
        matches!(lines[..], ["venus, virgl", "GPU: OpenGL: virgl", first, second, "none left"]
            if first == second && first.starts_with("drawn by virgl (")),
        || ours.to_string(),
    )
}

/// Without the permission, and without what virglrenderer would abort the VMM for.
fn virgl_refused() -> Outcome {
    let ours = script(&format!(
        "run --device /dev/dri --annotation io.krun-gpu.virgl=true $V true; echo status $?
         {ALLOW}
         for library in /usr/lib/*/libEGL.so.1 /usr/lib/*/libOpenGL.so.0; do
             mv $library $library.hidden
             run --device /dev/dri --annotation io.krun-gpu.virgl=true $V true; echo status $?
             krun-gpu check | grep -o 'missing .*GPU: OpenGL'
             mv $library.hidden $library
         done"
    ))?;
    ensure(
        ours.stdout
            == "status 126\nstatus 126\nmissing  GPU: OpenGL\nstatus 126\nmissing  GPU: OpenGL\n"
            && ours.stderr.contains("io.krun-gpu.virgl=`true`")
            && ours.stderr.contains("virgl = true")
            && ours.stderr.contains("loading libEGL.so.1")
            && ours.stderr.contains("loading libOpenGL.so.0"),
        || ours.to_string(),
    )
}
