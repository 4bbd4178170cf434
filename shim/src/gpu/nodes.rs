//! The host's DRM nodes that a container was given: whether we may use them.
//!
//! Which nodes a driver opens is its own business, and some need none (NVIDIA's, a rasteriser's).
//! But a user who hands over a node and may not open it would wonder why another GPU serves.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::GpuError;

/// Fails when a node exists and is not for us. One without a driver behind it does no harm.
pub(super) fn check(nodes: &[PathBuf]) -> Result<(), GpuError> {
    for path in nodes {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        if matches!(&opened, Err(error) if error.kind() == ErrorKind::PermissionDenied) {
            return Err(GpuError::Forbidden {
                path: path.clone(),
                uid: nix::unistd::getuid().as_raw(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_forbidden_node_is_an_error() {
        assert!(check(&["/nowhere/at/all".into(), "/dev/null".into()]).is_ok());
    }
}
