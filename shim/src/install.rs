//! Where the guest's kernel and initramfs are, and `/dev/kvm`: opened in the host's view, before
//! any namespace is entered.
//!
//! They are found from this program's own path (`PREFIX/bin/krun-gpu`, `PREFIX/lib/krun-gpu/`),
//! since Podman calls `delete` and others with no environment. Messages here must not hold the
//! words from which Podman derives statuses 126 and 127 (research: conformance.md 4.2): a missing
//! kernel is not a missing program.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// The KVM device.
pub(crate) const KVM: &str = "/dev/kvm";

/// What a machine lacks. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// No KVM.
    #[error(
        "/dev/kvm is missing: load the module kvm_intel or kvm_amd, and turn virtualization on in \
         the firmware or, inside a VM, nested virtualization on its host"
    )]
    NoKvm,
    /// KVM is not for us.
    #[error(
        "/dev/kvm may not be opened by user {uid}: add the user to the kvm group \
         (`usermod -aG kvm USER`, then log in again)"
    )]
    KvmForbidden {
        /// Our user id.
        uid: u32,
    },
    /// KVM does not open for another reason.
    #[error("open /dev/kvm")]
    Kvm(#[source] io::Error),
    /// A file of the installation is missing.
    #[error("the guest's {what} is missing: {} (`cargo xtask install` puts it there)", path.display())]
    Missing {
        /// Kernel or initramfs.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file of the installation is not for us.
    #[error("the guest's {what} may not be read: {}", path.display())]
    Forbidden {
        /// Kernel or initramfs.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// A file of the installation does not open.
    #[error("open the guest's {what} {}", path.display())]
    Open {
        /// Kernel or initramfs.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file of the installation is no such file.
    #[error("the guest's kernel {} is not an ELF image", path.display())]
    NotElf {
        /// Where it is.
        path: PathBuf,
    },
}

/// The open files that every VM starts from.
#[derive(Debug)]
pub(crate) struct Parts {
    /// `/dev/kvm`.
    pub(crate) kvm: File,
    /// The guest's kernel.
    pub(crate) kernel: File,
    /// The guest's initramfs.
    pub(crate) initramfs: File,
}

impl Parts {
    /// Opens them; `kernel` and `initramfs` replace the installed ones.
    pub(crate) fn open(kernel: &Path, initramfs: &Path) -> Result<Self, InstallError> {
        let image = open("kernel", kernel)?;
        let mut magic = [0; 4];
        if std::os::unix::fs::FileExt::read_exact_at(&image, &mut magic, 0).is_err()
            || magic != *b"\x7fELF"
        {
            return Err(InstallError::NotElf {
                path: kernel.to_owned(),
            });
        }
        Ok(Self {
            kvm: open_kvm(Path::new(KVM))?,
            kernel: image,
            initramfs: open("initramfs", initramfs)?,
        })
    }
}

/// The kernel and the initramfs that `config` or the installation names. A VM with a GPU has an
/// initramfs with the Vulkan driver.
pub(crate) fn paths(config: &Config, with_gpu: bool) -> (PathBuf, PathBuf) {
    let installed = |name: &str| {
        let program = fs::read_link("/proc/self/exe").unwrap_or_default();
        let prefix = program.parent().and_then(Path::parent);
        prefix
            .unwrap_or(Path::new("/usr/local"))
            .join("lib/krun-gpu")
            .join(name)
    };
    let (said, name) = if with_gpu {
        (&config.gpu.initramfs, "initramfs-gpu.cpio")
    } else {
        (&config.initramfs, "initramfs.cpio")
    };
    (
        config
            .kernel
            .clone()
            .unwrap_or_else(|| installed("vmlinux")),
        said.clone().unwrap_or_else(|| installed(name)),
    )
}

/// Opens the KVM device.
pub(crate) fn open_kvm(path: &Path) -> Result<File, InstallError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => InstallError::NoKvm,
            _ if error.raw_os_error() == Some(libc::ENXIO)
                || error.raw_os_error() == Some(libc::ENODEV) =>
            {
                InstallError::NoKvm
            }
            io::ErrorKind::PermissionDenied => InstallError::KvmForbidden {
                uid: nix::unistd::getuid().as_raw(),
            },
            _ => InstallError::Kvm(error),
        })
}

fn open(what: &'static str, path: &Path) -> Result<File, InstallError> {
    File::open(path).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => InstallError::Missing { what, path },
            io::ErrorKind::PermissionDenied => InstallError::Forbidden { what, path },
            _ => InstallError::Open { what, path, source },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_do_not_look_like_a_missing_program() {
        let nowhere = Path::new("/nowhere/at/all");
        let errors = [
            open_kvm(nowhere).unwrap_err(),
            open("kernel", nowhere).unwrap_err(),
            InstallError::KvmForbidden { uid: 1000 },
        ];
        for error in errors {
            let text = crate::report::chain(&error).to_lowercase();
            for trap in ["no such file", "permission denied", "not permitted"] {
                assert!(!text.contains(trap), "{text}");
            }
        }
    }
}
