//! llama.cpp on its Vulkan backend: ggml's own tests of its kernels, which compare the GPU with the
//! processor, and words that a model says.
//!
//! The host's driver compiles every kernel anew, and under emulation that takes seconds for each
//! (most for those with barriers), so both keep to few kernels.

use std::fs;

use super::{VENUS, gguf, script};
use crate::harness::{Case, Outcome, ensure, fail, images};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gpu::ggml_kernels",
        run: ggml_kernels,
    },
    Case {
        name: "gpu::llama",
        run: llama,
    },
];

/// Makes the host's rasteriser compile quickly and not well: conmon hands its variables on to the
/// runtime, and so to the render server.
const QUICK_COMPILER: &str = "
export CONTAINERS_CONF_OVERRIDE=$(mktemp)
trap 'rm $CONTAINERS_CONF_OVERRIDE' EXIT
cat >$CONTAINERS_CONF_OVERRIDE <<END
[engine]
conmon_env_vars = [\"PATH=$PATH\", \"GALLIVM_PERF=nopt\", \"LP_NATIVE_VECTOR_WIDTH=128\"]
END
";

/// ggml leaves GPUs alone that are processors, like the one behind Venus here, unless it is told.
const IN_CONTAINER: &str = "run --device /dev/dri --env GGML_VK_VISIBLE_DEVICES=0";

/// ggml's program with its tests.
const BACKEND_OPS: &str = "/usr/libexec/x86_64-linux-gnu/ggml/test-backend-ops";

/// Kernels, and which of their tests, by what ggml prints of the parameters. Each must pass some.
const KERNELS: [(&str, &str); 5] = [
    (
        "MUL_MAT",
        "type_a=q8_0,type_b=f32,m=16,n=1,k=256,bs=.1,1.,nr=.1,1.,per=.0,1,2,3.",
    ),
    (
        "ROPE",
        "^type=f32,ne_a=.128,32,2,1.,n_dims=128,mode=0,n_ctx=512,fs=1.0.*ff=0,v=0,inplace=0",
    ),
    ("SWIGLU", "^type=f32,ne_a=.128,2,2,2.,v=0,s"),
    ("GET_ROWS", "^type=q8_0,n=256,m=5,r=4,be1=1,be2=1,v=0"),
    ("ADD", "^type=f32,ne=.10,5,4,3.,nr=.1,1,1,1.,nf=1"),
];

fn ggml_kernels() -> Outcome {
    let (names, tests): (Vec<&str>, Vec<&str>) = KERNELS.into_iter().unzip();
    let ours = script(&format!(
        "{QUICK_COMPILER}{IN_CONTAINER} --rootfs {}:O {BACKEND_OPS} test -b Vulkan0 -o {} -p '{}'",
        images::LLAMA,
        names.join(","),
        tests.join("|")
    ))?;
    // "  MUL_MAT(type_a=q4_0,...): OK", in colours.
    let passed = |name: &str| {
        let of_it = |line: &&str| {
            let rest = line.trim_start().strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('(')) && line.contains("OK")
        };
        ours.stdout.lines().filter(of_it).count()
    };
    let each: Vec<usize> = names.iter().map(|name| passed(name)).collect();
    let all: usize = each.iter().sum();
    ensure(
        ours.status == 0
            && each.iter().all(|count| *count > 0)
            && ours.stdout.contains(&format!("{all}/{all} tests passed"))
            && ours.stdout.contains("Backend Vulkan0: ")
            && ours.stdout.contains(VENUS),
        || format!("{each:?} of {names:?} passed\n{ours}"),
    )
}

/// The words that follow, by the likeliest each time: the GPU's are the processor's.
fn llama() -> Outcome {
    /// Words to be said.
    const COUNT: usize = 8;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("model"), gguf::model())?;
    let image = images::LLAMA;
    let ours = script(&format!(
        "{QUICK_COMPILER}say() {{
             podman run --rm --network none --runtime \"$@\"
         }}
         model='-v {folder}/model:/model:ro --rootfs {image}:O llama-completion -m /model'
         options='-n {COUNT} -c 128 -b 1 -ub 1 -t 1 --temp 0 -fa off -no-cnv --no-warmup -p a'
         say crun $model -dev none $options
         {IN_CONTAINER} --env GGML_VK_DISABLE_FUSION=1 $model -dev Vulkan0 -ngl 99 -lv 4 $options",
        folder = folder.path().display(),
    ))?;
    let mut said = ours.stdout.lines().filter(|line| !line.is_empty());
    let (Some(processor), Some(gpu), None) = (said.next(), said.next(), said.next()) else {
        return fail(ours.to_string());
    };
    let words = processor.matches(" w").count();
    let log = [VENUS, "offloaded 5/5 layers to GPU", "Vulkan0 KV buffer"];
    ensure(
        ours.status == 0
            && processor == gpu
            && words == COUNT
            && log.iter().all(|words| ours.stderr.contains(words)),
        || ours.to_string(),
    )
}
