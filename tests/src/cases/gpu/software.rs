//! The software that people have: releases of Debian and a musl image, none of which knows of
//! Venus, Python's wheels, GL.

use std::fs;

use super::{VENUS, script, sees_venus};
use crate::harness::{Case, Outcome, ensure, images};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gpu::trixie",
        run: trixie,
    },
    Case {
        name: "gpu::bookworm",
        run: bookworm,
    },
    Case {
        name: "gpu::bullseye",
        run: bullseye,
    },
    Case {
        name: "gpu::musl",
        run: musl,
    },
    Case {
        name: "gpu::wheels",
        run: wheels,
    },
    Case {
        name: "gpu::gl",
        run: gl,
    },
];

/// Programs that use a wheel each, and say that its results are right.
const WHEELS: [(&str, &str); 3] = [
    ("taichi", include_str!("../../../python/on_taichi.py")),
    ("wgpu", include_str!("../../../python/on_wgpu.py")),
    ("ncnn", include_str!("../../../python/on_ncnn.py")),
];

fn trixie() -> Outcome {
    images::debian()?;
    sees_venus(
        "run --device /dev/dri localhost/debian vulkaninfo --summary",
        1,
    )
}

fn bookworm() -> Outcome {
    images::bookworm()?;
    sees_venus(
        "run --device /dev/dri localhost/bookworm vulkaninfo --summary",
        1,
    )
}

/// Its Vulkan loader knows VK_ICD_FILENAMES alone, its vulkaninfo prints less.
fn bullseye() -> Outcome {
    images::bullseye()?;
    sees_venus(
        "run --device /dev/dri localhost/bullseye vulkaninfo --summary",
        1,
    )
}

fn musl() -> Outcome {
    images::musl()?;
    sees_venus("run --device /dev/dri localhost/musl /bin/vulkan", 1)
}

fn wheels() -> Outcome {
    let scripts = tempfile::tempdir()?;
    let mut all = "set -e".to_owned();
    for (name, program) in WHEELS {
        fs::write(scripts.path().join(format!("on_{name}.py")), program)?;
        all.push_str(&format!("; python3 /scripts/on_{name}.py"));
    }
    let ours = script(&format!(
        "run --device /dev/dri -v {}:/scripts:ro --rootfs {}:O sh -c '{all}'",
        scripts.path().display(),
        images::PYTHON
    ))?;
    let right = |(name, _): &(&str, &str)| ours.stdout.contains(&format!("{name} right"));
    ensure(ours.status == 0 && WHEELS.iter().all(right), || {
        ours.to_string()
    })
}

/// GL without a window: the image's zink on the container's Vulkan. It takes a rasteriser, which
/// the GPU is here, only when told that software will do.
fn gl() -> Outcome {
    let ours = script(&format!(
        "run --device /dev/dri --env MESA_LOADER_DRIVER_OVERRIDE=zink \
             --env LIBGL_ALWAYS_SOFTWARE=1 --rootfs {}:O \
             eglinfo.x86_64-linux-gnu -B -p surfaceless",
        images::GL
    ))?;
    let renderer = ours.stdout.lines().find(|line| line.contains("renderer"));
    ensure(
        renderer.is_some_and(|line| line.contains("zink") && line.contains(VENUS)),
        || ours.to_string(),
    )
}
