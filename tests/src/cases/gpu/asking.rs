//! Every way to ask for a GPU, and everybody in the container who may use it.

use super::{VENUS, script, sees_venus};
use crate::harness::command::sh_as_user;
use crate::harness::{Case, Outcome, ensure, fail, images, sh};

pub(crate) const CASES: &[Case] = &[
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
        name: "gpu::group_of_the_node",
        run: group_of_the_node,
    },
    Case {
        name: "gpu::rootless",
        run: rootless,
    },
];

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

/// A node for a group alone, as on hosts without a desktop: its members use it and nobody else.
fn group_of_the_node() -> Outcome {
    let ours = script(
        "chmod 660 /dev/dri/renderD128; chgrp 2000 /dev/dri/renderD128
         trap 'chmod 666 /dev/dri/renderD128; chgrp 0 /dev/dri/renderD128' EXIT
         use='stat -c \"%a %u:%g\" /dev/dri/renderD128; vulkaninfo --summary; true </dev/dri/renderD128'
         run --device /dev/dri --user 1000 --group-add 2000 $V sh -c \"$use\"; echo status $?
         run --device /dev/dri --user 1000 $V sh -c \"$use\"; echo status $?",
    )?;
    let parts: Vec<&str> = ours.stdout.split("status ").collect();
    let [member, other, end] = parts[..] else {
        return fail(ours.to_string());
    };
    let node = "660 0:2000\n";
    ensure(
        member.starts_with(node)
            && member.contains(VENUS)
            && other.starts_with(&format!("0\n{node}"))
            && !other.contains(VENUS)
            && end != "0\n"
            && ours
                .stderr
                .contains("/dev/dri/renderD128: Permission denied"),
        || ours.to_string(),
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
