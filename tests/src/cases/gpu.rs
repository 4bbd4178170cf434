//! A GPU in the container, served by the host's: here lavapipe, by which everything but speed is
//! the same. And what a user is told where there is none.

use serde_json::Value;

use crate::harness::command::sh_as_user;
use crate::harness::{Case, Outcome, ensure, images, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "gpu::devices",
        run: devices,
    },
    Case {
        name: "gpu::annotation_and_cdi",
        run: annotation_and_cdi,
    },
    Case {
        name: "gpu::exec_and_empty_environment",
        run: exec_and_empty_environment,
    },
    Case {
        name: "gpu::ordinary_user_in_the_container",
        run: ordinary_user_in_the_container,
    },
    Case {
        name: "gpu::rootless",
        run: rootless,
    },
    Case {
        name: "gpu::state_says_what_serves",
        run: state_says_what_serves,
    },
    Case {
        name: "gpu::nothing_without_a_request",
        run: nothing_without_a_request,
    },
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
    Case {
        name: "gpu::says_what_is_missing",
        run: says_what_is_missing,
    },
    Case {
        name: "gpu::forbidden_nodes",
        run: forbidden_nodes,
    },
    Case {
        name: "gpu::check",
        run: check,
    },
];

/// What vulkaninfo says of the GPU in a container.
const VENUS: &str = "Virtio-GPU Venus (llvmpipe";

/// The nodes that a machine with a GPU has; Podman insists on them. Nothing is behind them here.
const NODES: &str = "mkdir -p /dev/dri
[ -e /dev/dri/card0 ] || mknod -m 660 /dev/dri/card0 c 226 0
[ -e /dev/dri/renderD128 ] || mknod -m 666 /dev/dri/renderD128 c 226 128
chgrp video /dev/dri/card0
V=localhost/vulkan
";

fn script(text: &str) -> Result<crate::harness::Output, libtest_mimic::Failed> {
    images::vulkan()?;
    sh(&format!("{NODES}{text}"))
}

/// Runs `text` and insists on as many lines with the Venus device.
fn sees_venus(text: &str, times: usize) -> Outcome {
    let ours = script(text)?;
    let seen = ours.stdout.matches(VENUS).count();
    ensure(ours.status == 0 && seen == times, || ours.to_string())
}

fn devices() -> Outcome {
    sees_venus(
        "run --device /dev/dri $V vulkaninfo --summary
         run -v /dev/dri:/dev/dri $V vulkaninfo --summary",
        2,
    )
}

fn annotation_and_cdi() -> Outcome {
    sees_venus(
        "rm -r /dev/dri
         run --annotation io.krun-gpu.gpu=true $V vulkaninfo --summary
         run --device krun-gpu.io/gpu=all $V vulkaninfo --summary",
        2,
    )
}

fn exec_and_empty_environment() -> Outcome {
    sees_venus(
        "create_detached --device /dev/dri --name g $V sleep 1000 >/dev/null
         podman exec g vulkaninfo --summary
         podman exec g env -i /bin/vulkaninfo --summary
         podman rm -f -t 0 g >/dev/null",
        2,
    )
}

fn ordinary_user_in_the_container() -> Outcome {
    let ours = script(
        "run --device /dev/dri --user 1000:1000 $V sh -c 'ls -ln /dev/dri; vulkaninfo --summary'",
    )?;
    let group = sh("getent group video | cut -d: -f3")?;
    let node = format!(
        "crw-rw----    1 0        {:<8}  226,   0",
        group.stdout.trim()
    );
    ensure(
        ours.stdout.contains(VENUS) && ours.stdout.contains(&node),
        || format!("{ours}\nexpected {node:?}"),
    )
}

fn rootless() -> Outcome {
    script("")?;
    images::vulkan_of_user()?;
    let ours = sh_as_user(
        "krun-gpu",
        "run --device /dev/dri/renderD128 localhost/vulkan vulkaninfo --summary",
    )?;
    ensure(ours.stdout.contains(VENUS), || ours.to_string())
}

fn state_says_what_serves() -> Outcome {
    let ours = script(
        "create_detached --device /dev/dri --name g $V sleep 1000 >/dev/null
         krun-gpu state $(podman inspect g --format '{{.Id}}')
         podman rm -f -t 0 g >/dev/null",
    )?;
    let state: Value = serde_json::from_str(&ours.stdout).unwrap_or_default();
    let gpu = &state["gpu"];
    let name = gpu["devices"][0]["name"].as_str().unwrap_or_default();
    ensure(
        gpu["personality"] == "venus" && gpu["software"] == true && name.contains("llvmpipe"),
        || ours.to_string(),
    )
}

fn nothing_without_a_request() -> Outcome {
    let ours = script(
        "create_detached --name n $V sh -c 'ls /dev/dri; sleep 1000' >/dev/null
         grep -c virgl /proc/$(podman inspect n --format '{{.State.Pid}}')/maps
         pgrep -f virgl_render_server; podman exec n ls /sys/class/drm
         podman rm -f -t 0 n >/dev/null",
    )?;
    let lines: Vec<&str> = ours.stdout.lines().collect();
    ensure(
        lines.first() == Some(&"0") && !ours.stdout.contains("render"),
        || ours.to_string(),
    )
}

/// Kills what `pattern` matches, and looks at the container afterwards.
fn killed(pattern: &str, words: &str) -> Outcome {
    let ours = script(&format!(
        "create_detached --device /dev/dri --name k $V sleep 1000 >/dev/null
         podman exec k vulkaninfo --summary | grep -c Venus
         pkill -9 -o -f '{pattern}'; sleep 1
         pgrep -f virgl_render_server
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
    killed("gpu-server", "render server is gone")
}

fn vmm_killed() -> Outcome {
    let ours = script(
        "create_detached --device /dev/dri --name v $V sleep 1000 >/dev/null
         kill -9 $(podman inspect v --format '{{.State.Pid}}')
         podman wait v; sleep 0.5; pgrep -f virgl_render_server; podman rm v",
    )?;
    ensure(ours.stdout == "137\nv\n", || ours.to_string())
}

/// Runs a container while `files` are hidden, and insists on `words` in the failure.
fn without(files: &str, instead: &str, words: &[&str]) -> Outcome {
    let ours = script(&format!(
        "hidden=$(mktemp -d); list=$(ls -d {files})
         for file in $list; do mkdir -p $hidden$(dirname $file); mv $file $hidden$file; done
         {instead}
         run --device /dev/dri $V true; echo status $?
         for file in $list; do rm -rf $file; mv $hidden$file $file; done; rm -r $hidden"
    ))?;
    ensure(
        ours.stdout == "status 126\n" && words.iter().all(|word| ours.stderr.contains(word)),
        || format!("{words:?}: {ours}"),
    )
}

fn says_what_is_missing() -> Outcome {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libvirglrenderer.so.1";
    without(LIBRARY, "", &["libvirglrenderer1", "1.1 or newer"])?;
    without(
        LIBRARY,
        &format!("ln -s libz.so.1 {LIBRARY}"),
        &["too old", "1.1 or newer"],
    )?;
    without(
        "/usr/libexec/virgl_render_server",
        "",
        &["virgl-server", "render_server"],
    )?;
    without(
        "/usr/share/vulkan/icd.d",
        "",
        &["no Vulkan driver", "mesa-vulkan-drivers"],
    )
}

fn forbidden_nodes() -> Outcome {
    script("chmod 600 /dev/dri/renderD128")?;
    images::vulkan_of_user()?;
    let ours = sh_as_user(
        "krun-gpu",
        "run --device /dev/dri/renderD128 localhost/vulkan true",
    )?;
    script("chmod 666 /dev/dri/renderD128")?;
    ensure(
        ours.status != 0
            && ours
                .stderr
                .contains("/dev/dri/renderD128 may not be opened")
            && ours.stderr.contains("usermod"),
        || ours.to_string(),
    )
}

fn check() -> Outcome {
    let ours = script("krun-gpu check")?;
    ensure(
        ours.status == 0
            && ours.stdout.contains("llvmpipe")
            && ours.stdout.contains("rasteriser")
            && ours.stdout.contains("virgl_render_server"),
        || ours.to_string(),
    )
}
