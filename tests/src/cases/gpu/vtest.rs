//! The GPU's device without a guest: Mesa's Venus driver reaches it over vtest, and everything
//! from virtio-gpu's commands to the host's driver is what serves a VM.

use super::VENUS;
use crate::harness::{Case, Outcome, ensure, sh};

pub(crate) const CASES: &[Case] = &[Case {
    name: "gpu::without_a_guest",
    run: without_a_guest,
}];

fn without_a_guest() -> Outcome {
    let ours = sh("dir=$(mktemp -d); tools=/usr/local/libexec/krun-gpu
         icd() { echo /usr/share/vulkan/icd.d/$1_icd*.json; }
         VK_DRIVER_FILES=$(icd lvp) $tools/vtest --socket $dir/vtest & server=$!
         until [ -S $dir/vtest ] || ! kill -0 $server; do sleep 0.1; done
         export VN_DEBUG=vtest VTEST_SOCKET_NAME=$dir/vtest VK_DRIVER_FILES=$(icd virtio)
         vulkaninfo --summary 2>/dev/null
         $tools/krun-gpu-compute check && $tools/krun-gpu-compute submits 1000
         echo status $?; kill $server; wait $server; rm -r $dir")?;
    let words = [
        VENUS,
        "dispatch: 1048576 elements right",
        "submits: 1000 counted",
        "status 0",
    ];
    ensure(words.iter().all(|word| ours.stdout.contains(word)), || {
        ours.to_string()
    })
}
