//! What a render server may reach: no capability, no file to write but a GPU's nodes, and none to
//! read but programs, libraries and the configuration of drivers.
//!
//! It runs a driver on commands that a hostile guest wrote, often as root, so a file's owner and
//! mode protect nothing from it, a disk's node included. Landlock does, in every kernel since 5.13
//! that has it turned on; where it is not, `krun-gpu check` says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    path_beneath_rules,
};

/// What is known of the file system: version 3 of Landlock has truncation as well (Linux 6.2).
const VERSION: ABI = ABI::V3;

/// Programs, libraries, data, and what the kernel and drivers say of themselves.
const READABLE: [&str; 22] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/run/opengl-driver",
    "/proc",
    "/sys",
    "/etc/alternatives",
    "/etc/drirc",
    "/etc/glvnd",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nvidia",
    "/etc/OpenCL",
    "/etc/vulkan",
    "/etc/xdg",
    "/run/nvidia-persistenced",
    "/run/udev",
];

/// Where device nodes are; their modes still count, and nothing may be made there.
const NODES: &str = "/dev";
const SHARED_MEMORY: &str = "/dev/shm";

/// Nodes that every program expects.
const ORDINARY: [&str; 5] = ["full", "null", "random", "urandom", "zero"];

/// How the names of GPUs' nodes and of memory to share with them begin: DRM, AMD's compute,
/// dma-buf's makers, NVIDIA's (Tegra's, too), Arm's, Qualcomm's, Windows' in its own Linux.
const OF_GPUS: [&str; 11] = [
    "dma_heap", "dri", "dxg", "kfd", "kgsl", "mali", "nvgpu", "nvhost", "nvidia", "nvmap",
    "udmabuf",
];

/// Why a server is not confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfinementError {
    /// A capability that does not go.
    #[error("give up capabilities: {0}")]
    Capability(String),
    /// No new privileges.
    #[error("give up new privileges")]
    Privileges(#[source] io::Error),
    /// The host's nodes are not to be seen.
    #[error("look for a GPU's nodes in {NODES}")]
    Nodes(#[source] io::Error),
    /// Landlock refused.
    #[error("restrict the file system")]
    Landlock(#[from] RulesetError),
}

/// Confines this process and all that it starts.
pub(super) fn confine(program: &Path, more: &[PathBuf]) -> Result<(), ConfinementError> {
    // SAFETY: plain system call.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
        return Err(ConfinementError::Privileges(io::Error::last_os_error()));
    }
    restrict_files(program, more)?;
    let failed = |error: caps::errors::CapsError| ConfinementError::Capability(error.to_string());
    // Only who has CAP_SETPCAP may shrink the bounding set; without new privileges nobody gains
    // from what is in it.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed)? {
        caps::clear(None, CapSet::Bounding).map_err(failed)?;
    }
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(failed)?;
    }
    Ok(())
}

fn restrict_files(program: &Path, more: &[PathBuf]) -> Result<(), ConfinementError> {
    let all = AccessFs::from_all(VERSION);
    let read = AccessFs::from_read(VERSION);
    let use_devices = read | AccessFs::WriteFile | AccessFs::Truncate;
    let nodes = nodes().map_err(ConfinementError::Nodes)?;
    // A path that is not there gives no rule.
    Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(READABLE, read))?
        .add_rules(path_beneath_rules(more, read))?
        .add_rules(path_beneath_rules([program], read))?
        .add_rules(path_beneath_rules(nodes, use_devices))?
        .add_rules(path_beneath_rules([SHARED_MEMORY], all))?
        .restrict_self()?;
    Ok(())
}

/// The nodes that a driver may use, or folders of such.
fn nodes() -> io::Result<Vec<PathBuf>> {
    let mut nodes = Vec::new();
    for entry in fs::read_dir(NODES)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_for_drivers) {
            nodes.push(entry.path());
        }
    }
    Ok(nodes)
}

fn is_for_drivers(name: &str) -> bool {
    ORDINARY.contains(&name) || OF_GPUS.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether the kernel restricts files.
pub(crate) fn has_landlock() -> bool {
    // SAFETY: with this flag the call takes no attributes, and makes nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            1_u32,
        )
    };
    version > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_terminals_and_kvm_are_for_no_driver() {
        for name in [
            "null",
            "dri",
            "nvidia0",
            "nvidia-uvm",
            "nvidiactl",
            "udmabuf",
        ] {
            assert!(is_for_drivers(name), "{name}");
        }
        for name in [
            "sda", "vda1", "nvme0n1", "mem", "tty", "kvm", "input", "nullb0", "fuse",
        ] {
            assert!(!is_for_drivers(name), "{name}");
        }
    }
}
