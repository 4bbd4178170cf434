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
        name: "gpu::taichi",
        run: || wheel("taichi", include_str!("../../../python/on_taichi.py")),
    },
    Case {
        name: "gpu::wgpu",
        run: || wheel("wgpu", include_str!("../../../python/on_wgpu.py")),
    },
    Case {
        name: "gpu::ncnn",
        run: || wheel("ncnn", include_str!("../../../python/on_ncnn.py")),
    },
    Case {
        name: "gpu::gl",
        run: gl,
    },
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

/// A Python program that uses the wheel `name` and says that the results are right.
fn wheel(name: &str, program: &str) -> Outcome {
    let folder = tempfile::tempdir()?;
    // Not by the wheel's own name, which it would hide.
    fs::write(folder.path().join("program.py"), program)?;
    let ours = script(&format!(
        "run --device /dev/dri -v {}:/program:ro --rootfs {}:O python3 /program/program.py",
        folder.path().display(),
        images::PYTHON
    ))?;
    ensure(
        ours.status == 0 && ours.stdout.contains(&format!("{name} right")),
        || ours.to_string(),
    )
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
