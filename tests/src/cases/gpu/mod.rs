//! A GPU in the container, served by the host's: here lavapipe, by which everything but speed is
//! the same.

pub(super) mod asking;
pub(super) mod compute;
pub(super) mod confined;
pub(super) mod death;
pub(crate) mod gguf;
pub(super) mod host;
pub(super) mod llama;
pub(super) mod opengl;
pub(super) mod software;
pub(super) mod vtest;

use libtest_mimic::Failed;

use crate::harness::command::GPU_NODES;
use crate::harness::{Outcome, Output, ensure, images, sh};

/// What vulkaninfo says of the GPU in a container.
const VENUS: &str = "Virtio-GPU Venus (llvmpipe";

fn script(text: &str) -> Result<Output, Failed> {
    images::vulkan()?;
    sh(&format!("{GPU_NODES}V=localhost/vulkan\n{text}"))
}

/// Runs `text` and insists on as many lines with the Venus device.
fn sees_venus(text: &str, times: usize) -> Outcome {
    let ours = script(text)?;
    let seen = ours.stdout.matches(VENUS).count();
    ensure(ours.status == 0 && seen == times, || ours.to_string())
}
