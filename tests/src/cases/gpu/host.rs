//! What a user is told of the host's GPU, or of what it lacks; and that nothing of it is there
//! without a request.

use serde_json::Value;

use super::script;
use crate::harness::command::sh_as_user;
use crate::harness::{Case, Outcome, ensure, images};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gpu::state_says_what_serves",
        run: state_says_what_serves,
    },
    Case {
        name: "gpu::nothing_without_a_request",
        run: nothing_without_a_request,
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
         pgrep -f '[v]irgl_render_server'; podman exec n ls /sys/class/drm
         podman rm -f -t 0 n >/dev/null",
    )?;
    let lines: Vec<&str> = ours.stdout.lines().collect();
    ensure(
        lines.first() == Some(&"0") && !ours.stdout.contains("render"),
        || ours.to_string(),
    )
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
