//! Why a container that asks for a GPU cannot have one. The messages say what to install or change.

use std::io;
use std::path::PathBuf;

use krun_gpu_vmm::devices::gpu::virgl::LoadError;

use super::probe::ProbeError;
use super::render_server::ServerError;
use crate::report;
use crate::sandbox::cgroup::CgroupError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GpuError {
    /// A node that is not for us.
    #[error(
        "{} may not be opened by user {uid}: add the user to the group of the file \
         (`usermod -aG render USER`, then log in again; rootless Podman needs `--group-add \
         keep-groups` as well)",
        path.display()
    )]
    Forbidden {
        /// The node.
        path: PathBuf,
        /// Our user id.
        uid: u32,
    },
    /// virglrenderer. What the dynamic linker says holds words that Podman would take for a
    /// missing program's.
    #[error("{}", report::chain(.0).replace("No such file or directory", "it is missing"))]
    Library(LoadError),
    /// virglrenderer knows too little of this driver.
    #[error(
        "{name} with NVIDIA's driver needs virglrenderer 1.2 or newer on the host, and the \
         installed one has no virgl_renderer_resource_map_fixed, which came right after 1.2: \
         install 1.3"
    )]
    TooOldForNvidia {
        /// The GPU.
        name: String,
    },
    /// The render server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The host's drivers could not be asked.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// There is no driver.
    #[error(
        "the host has no Vulkan driver for a GPU: install the driver of its vendor, or \
         mesa-vulkan-drivers, which has a rasteriser for hosts without a GPU as well{hint}"
    )]
    NoDriver {
        /// What the Vulkan loader said, if anything.
        hint: String,
    },
    /// The host's root directory.
    #[error("open the host's root directory")]
    Root(#[source] io::Error),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}
