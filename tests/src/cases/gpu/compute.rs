//! Our own Vulkan program in containers: results, memory that comes back, two containers at once.

use libtest_mimic::Failed;

use super::{VENUS, script};
use crate::harness::{Case, Outcome, ensure, fail, images};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gpu::compute",
        run: compute,
    },
    Case {
        name: "gpu::compute_on_two_vcpus",
        run: compute_on_two_vcpus,
    },
    Case {
        name: "gpu::memory_comes_back",
        run: memory_comes_back,
    },
    Case {
        name: "gpu::two_at_once",
        run: two_at_once,
    },
];

/// What the scripts here share. `start NAME [COMMAND]` starts a container that has the program.
const SHARED: &str = "C=/usr/local/libexec/krun-gpu/krun-gpu-compute
pid() { podman inspect $1 --format '{{.State.Pid}}'; }
start() {
    name=$1; shift
    create_detached --name $name --device /dev/dri -v $C:/compute:ro localhost/debian \"$@\" >/dev/null
}
";

fn compute() -> Outcome {
    images::debian()?;
    let ours = script(&format!(
        "{SHARED} run --device /dev/dri -v $C:/compute:ro localhost/debian \
             sh -c '/compute check && /compute submits 1000'"
    ))?;
    let words = [
        VENUS,
        "dispatch: 1048576 elements right",
        "timeline: right",
        "submits: 1000 counted",
    ];
    ensure(
        ours.status == 0 && words.iter().all(|word| ours.stdout.contains(word)),
        || ours.to_string(),
    )
}

fn compute_on_two_vcpus() -> Outcome {
    images::debian()?;
    let ours = script(&format!(
        "{SHARED} run --cpus 2 --device /dev/dri -v $C:/compute:ro localhost/debian \
             sh -c 'nproc && /compute check'"
    ))?;
    ensure(
        ours.status == 0
            && ours.stdout.starts_with("2\n")
            && ours.stdout.contains("dispatch: 1048576 elements right"),
        || ours.to_string(),
    )
}

/// What the VMM and the machine hold. Sizes are in KiB.
#[derive(Debug)]
struct Held {
    descriptors: u64,
    mappings: u64,
    private: u64,
    shared: u64,
}

impl Held {
    /// Reads the line that starts with `held`.
    fn parse(line: &str) -> Result<Self, Failed> {
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        match numbers[..] {
            [descriptors, mappings, private, shared] => Ok(Self {
                descriptors,
                mappings,
                private,
                shared,
            }),
            _ => fail(format!("{line:?} has not four numbers")),
        }
    }
}

/// 2 GiB of blobs come and go, and nothing more is held than after the first few.
fn memory_comes_back() -> Outcome {
    images::debian()?;
    let ours = script(&format!(
        "{SHARED} start m sleep 1000
         held() {{
             sleep 2; p=$(pid m)
             echo held $(ls /proc/$p/fd | wc -l) $(wc -l </proc/$p/maps) \
                 $(awk '/^Private/ {{ n += $2 }} END {{ print n }}' /proc/$p/smaps_rollup) \
                 $(awk '/^Shmem:/ {{ print $2 }}' /proc/meminfo)
         }}
         podman exec m /compute blobs 128; held
         podman exec m /compute blobs 2048; held
         podman rm -f -t 0 m >/dev/null"
    ))?;
    let lines: Vec<&str> = ours
        .stdout
        .lines()
        .filter(|line| line.starts_with("held"))
        .collect();
    let [first, second] = lines[..] else {
        return fail(ours.to_string());
    };
    let (first, second) = (Held::parse(first)?, Held::parse(second)?);
    ensure(
        ours.stdout.contains("blobs: 32 of 64 MiB right")
            && second.descriptors <= first.descriptors
            && second.mappings <= first.mappings
            // Less than one of the 32 blobs.
            && second.private <= first.private + (32 << 10)
            && second.shared <= first.shared + (32 << 10),
        || format!("{first:?}, then {second:?}\n{ours}"),
    )
}

/// While one container is busy, killed in the middle of its work, or dead with its VMM, the other
/// computes.
fn two_at_once() -> Outcome {
    images::debian()?;
    let ours = script(&format!(
        "{SHARED} start b sleep 1000
         busy() {{ start $1 /compute dispatch-forever; until podman logs $1 | grep -q dispatching; do sleep 0.2; done; }}
         busy a; podman exec b /compute check | grep dispatch
         podman kill a >/dev/null; podman wait a; podman exec b /compute check | grep dispatch
         busy c; kill -9 $(pid c); podman wait c; podman exec b /compute check | grep dispatch
         podman rm -f -t 0 a b c >/dev/null"
    ))?;
    let right = "dispatch: 1048576 elements right\n";
    ensure(
        ours.stdout == format!("{right}137\n{right}137\n{right}"),
        || ours.to_string(),
    )
}
