//! llama-bench on its Vulkan backend: in a container with Venus, next to a crun container that has
//! the host's rasteriser itself.

use std::fs;

use libtest_mimic::Failed;

use crate::cases::gguf;
use crate::harness::command::sh;
use crate::harness::{ensure, images};

/// The prompt's words and those to be said: every kernel is compiled anew for each kind, which
/// takes minutes under emulation, so they are few. llama-bench warms up before it measures.
const TEST: &str = "-p 32 -n 8 -r 2 -t 1 -ngl 99 -fa 0 -o json";

/// The host's rasteriser with its libraries, but for those that every image has newer: `/tmp/lvp`.
const NATIVE_DRIVER: &str = r#"
mkdir -p /tmp/lvp; driver=$(ls /usr/lib/*/libvulkan_lvp.so)
cp $driver $(ldd $driver | grep -o '/[^ )]*\.so[^ )]*' | grep -v -E '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so[^/]*)$') /tmp/lvp
sed 's,"library_path": *"[^"]*","library_path": "/lvp/libvulkan_lvp.so",' $(ls /usr/share/vulkan/icd.d/lvp_icd*.json) >/tmp/lvp/icd.json
"#;

/// Prints both speeds and their ratio, for the prompt and for the generation.
pub(super) fn run() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("model"), gguf::model())?;
    let made = sh(NATIVE_DRIVER)?;
    ensure(made.status == 0, || made.to_string())?;
    let bench = |options: &str| {
        let output = sh(&format!(
            "podman run --rm --network none {options} -e GGML_VK_VISIBLE_DEVICES=0 -v {}/model:/model:ro \
             --rootfs {}:O llama-bench -m /model {TEST}",
            folder.path().display(),
            images::LLAMA
        ))?;
        ensure(output.status == 0, || output.to_string())?;
        speeds(&output.stdout)
    };
    let native = bench(
        "--runtime crun -v /tmp/lvp:/lvp:ro -e LD_LIBRARY_PATH=/lvp -e VK_DRIVER_FILES=/lvp/icd.json",
    )?;
    let contained = bench("--runtime krun-gpu --device /dev/dri")?;
    println!("llama-bench, words per second: natively, in a container, container over native");
    for (name, index) in [("prompt", 0), ("generation", 1)] {
        let (theirs, ours) = (native[index], contained[index]);
        println!("  {name}: {theirs:.2}, {ours:.2}, {:.2}", ours / theirs);
    }
    Ok(())
}

/// The prompt's and the generation's words per second, out of llama-bench's JSON.
fn speeds(json: &str) -> Result<[f64; 2], Failed> {
    let results: Vec<serde_json::Value> = serde_json::from_str(json)?;
    let speed = |index: usize| {
        let result = results.get(index)?;
        let on_gpu = result.get("backends")?.as_str()?.contains("Vulkan");
        result.get("avg_ts")?.as_f64().filter(|_| on_gpu)
    };
    match (speed(0), speed(1)) {
        (Some(prompt), Some(generation)) => Ok([prompt, generation]),
        _ => Err(Failed::from(format!("no two results of Vulkan: {json}"))),
    }
}
