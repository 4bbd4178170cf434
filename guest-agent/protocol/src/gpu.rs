//! The GPU's half of the surroundings: its nodes in /dev/dri, and which Vulkan driver the workload
//! gets.

use serde::{Deserialize, Serialize};

/// A GPU in the container. The guest must have one: the host asks for it only with a virtio-gpu
/// device in the VM.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Gpu {
    /// Who may use `/dev/dri/card0`; without it there is no such node.
    pub card: Option<GpuAccess>,
    /// Who may use `/dev/dri/renderD128`; without it there is no such node.
    pub render: Option<GpuAccess>,
    /// Where the Venus driver comes from.
    pub driver: GpuDriver,
}

/// Owner and mode of a node. The guest knows the numbers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GpuAccess {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Where the container's Venus driver comes from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum GpuDriver {
    /// The image's when it has one that is newer than the runtime's, else the runtime's.
    #[default]
    Newest,
    /// The runtime's.
    Bundled,
    /// The image's; that it has none is an error.
    Image,
    /// Nobody says anything to the Vulkan loader.
    None,
}
