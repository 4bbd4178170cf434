//! The GPU's half of `create`: what of the host serves a container's virtio-gpu.
//!
//! All of it happens in the host's view, before a namespace is entered: the library is loaded, the
//! render server is started, the host's Vulkan drivers are asked who they are. Nothing of it
//! happens for a container that asks for no GPU. [`Preparation::begin`] does what needs no
//! container yet, and starts the asking, which goes on meanwhile; [`Preparation::start`] does the
//! rest. Messages here must not hold the words from which Podman derives statuses 126 and 127
//! (see `install.rs`).

mod choice;
mod error;
mod nodes;
pub(crate) mod probe;
pub(crate) mod render_server;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use krun_gpu_vmm::devices::gpu::virgl::{Library, find_opengl};
use krun_gpu_vmm::devices::gpu::{GpuConfig, OpenGl};
use serde::{Deserialize, Serialize};

pub(crate) use self::choice::{Choice, use_driver_files};
pub(crate) use self::error::GpuError;
use self::probe::Probe;
use self::render_server::RenderServer;
use crate::config::GpuPolicy;
use crate::sandbox::cgroup;
use crate::split::Gpu;
use crate::state::{CgroupRecord, ContainerId, ProcessIdentity};
use crate::trace;

/// What a VM gets for its GPU.
#[derive(Debug)]
pub(crate) struct HostSide {
    /// For the device.
    pub(crate) device: GpuConfig,
    /// Closed by the render server's end; closing it ends the render server.
    pub(crate) lifeline: OwnedFd,
}

/// What the state says of a container's GPU.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GpuRecord {
    /// What the guest's drivers speak to: `venus`, or `venus, virgl`.
    pub(crate) personality: String,
    /// The host's GPUs that serve it, the first one first.
    pub(crate) devices: Vec<probe::HostGpu>,
    /// A rasteriser on the host's processors serves it.
    pub(crate) software: bool,
    /// The render server's supervisor, which ends after it.
    pub(crate) render_server: ProcessIdentity,
}

/// What is there before the container is.
#[derive(Debug)]
pub(crate) struct Preparation {
    gpu: Gpu,
    policy: GpuPolicy,
    library: Library,
    program: PathBuf,
    root: File,
    probe: Probe,
}

impl Preparation {
    /// Looks at everything that `gpu` needs from this host.
    pub(crate) fn begin(gpu: &Gpu, policy: &GpuPolicy) -> Result<Self, GpuError> {
        nodes::check(&gpu.nodes)?;
        use_driver_files(policy);
        let probe = Probe::begin()?;
        let library = Library::load().map_err(GpuError::Library)?;
        if gpu.virgl {
            find_opengl().map_err(GpuError::Library)?;
        }
        trace::mark("virglrenderer_loaded");
        Ok(Self {
            program: render_server::find(policy)?,
            root: File::open("/").map_err(GpuError::Root)?,
            library,
            probe,
            gpu: gpu.clone(),
            policy: policy.clone(),
        })
    }

    /// Chooses the host's GPU and starts the render server in the container's cgroup.
    pub(crate) fn start(
        self,
        cgroup: Option<&CgroupRecord>,
        id: &ContainerId,
    ) -> Result<(HostSide, GpuRecord), GpuError> {
        let choice = Choice::new(self.probe.finish()?)?;
        trace::mark("gpu_probed");
        choice.check_library(&self.library)?;
        choice.use_drivers();
        if choice.software {
            tracing::warn!(
                "no Vulkan driver of a GPU is on this host: {} serves, on the processors",
                choice.names()
            );
        }
        let starting = RenderServer::spawn(&self.program, &self.policy)?;
        if let Some(cgroup) = cgroup {
            cgroup::join(cgroup, id, starting.pid())?;
        }
        let server = match starting.go() {
            Ok(server) => server,
            Err(error) => {
                if let Some(cgroup) = cgroup {
                    // The first failure is the one to tell.
                    let _ = cgroup::remove(cgroup, id);
                }
                return Err(error.into());
            }
        };
        trace::mark("render_server_started");
        let record = GpuRecord {
            personality: if self.gpu.virgl {
                "venus, virgl".to_owned()
            } else {
                "venus".to_owned()
            },
            devices: choice.devices,
            software: choice.software,
            render_server: server.identity,
        };
        let host = HostSide {
            device: GpuConfig {
                library: self.library,
                render_server: server.socket,
                opengl: match self.gpu.virgl {
                    true if choice.software => OpenGl::Any,
                    true => OpenGl::Gpu,
                    false => OpenGl::No,
                },
                host_root: Some(self.root.into()),
                window: self.gpu.window,
                memory_limit: self.gpu.memory,
            },
            lifeline: server.lifeline,
        };
        Ok((host, record))
    }
}
