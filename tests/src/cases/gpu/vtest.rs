//! The GPU's device without a guest: Mesa's Venus driver reaches it over vtest, and everything
//! from virtio-gpu's commands to the host's driver is what serves a VM
//! (vmm/examples/vtest).

use super::VENUS;
use crate::harness::{Case, Outcome, ensure, sh};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gpu::without_a_guest",
        run: without_a_guest,
    },
    Case {
        name: "gpu::inside_the_program",
        run: inside_the_program,
    },
];

/// The host's driver is `$VK_DRIVER_FILES`, the guest's `$dir/icd.json`.
const DRIVERS: &str = r#"dir=$(mktemp -d); trap 'rm -rf $dir' EXIT
tools=/usr/local/libexec/krun-gpu
export VK_DRIVER_FILES=$(echo /usr/share/vulkan/icd.d/lvp_icd*.json)
printf '{"file_format_version":"1.0.1","ICD":{"library_path":"%s","api_version":"1.4.0"}}' $tools/libvulkan_virtio.so >$dir/icd.json
"#;

const WORDS: [&str; 4] = [
    VENUS,
    "dispatch: 1048576 elements right",
    "timeline: right",
    "submits: 1000 counted",
];

fn without_a_guest() -> Outcome {
    all_right(&format!(
        "{DRIVERS} $tools/vtest --socket $dir/vtest & server=$!
         until [ -S $dir/vtest ] || ! kill -0 $server; do sleep 0.1; done
         export VN_DEBUG=vtest VTEST_SOCKET_NAME=$dir/vtest VK_DRIVER_FILES=$dir/icd.json
         vulkaninfo --summary 2>/dev/null
         $tools/krun-gpu-compute check && $tools/krun-gpu-compute submits 1000
         echo status $?; kill $server; wait $server"
    ))
}

/// Without udmabuf lavapipe's memory has no descriptor that can be mapped, as NVIDIA's has none
/// without DRM: each blob comes into the window by the renderer's own mapping.
fn inside_the_program() -> Outcome {
    all_right(&format!(
        r#"{DRIVERS} inside() {{
             unshare --mount sh -c '
                 mount -t tmpfs none /mnt; mkdir /mnt/dev
                 for node in null zero full random urandom; do cp -a /dev/$node /mnt/dev; done
                 mount --bind /mnt/dev /dev
                 "$@"' sh \
             env LD_PRELOAD=$tools/libvtest_inside.so KRUN_GPU_VTEST_DRIVER=$dir/icd.json "$@"
         }}
         inside vulkaninfo --summary 2>/dev/null
         inside $tools/krun-gpu-compute check
         inside $tools/krun-gpu-compute submits 1000 && inside $tools/krun-gpu-compute blobs 256
         echo status $?; ls /tmp | grep krun-gpu-vtest"#
    ))
}

fn all_right(script: &str) -> Outcome {
    let ours = sh(script)?;
    let is_right = WORDS.iter().all(|word| ours.stdout.contains(word));
    ensure(is_right && ours.stdout.ends_with("status 0\n"), || {
        ours.to_string()
    })
}
