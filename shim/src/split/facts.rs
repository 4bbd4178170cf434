//! What the split asks the host about: everything it knows that is not in config.json.
//!
//! The split itself is pure, so its rows are tested with made-up answers.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use krun_gpu_protocol::DeviceKind;

use crate::host;

/// What a path of the host is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Node {
    /// A directory.
    Directory,
    /// A character or block device.
    Device(DeviceNode),
    /// Anything else.
    File,
}

/// A device node of the host's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct DeviceNode {
    /// Its kind.
    pub(crate) kind: DeviceKind,
    /// Its major number.
    pub(crate) major: u32,
    /// Its minor number.
    pub(crate) minor: u32,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Its owner.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
}

/// Answers about the host.
pub(crate) trait Facts {
    /// What `path` is, symbolic links followed.
    fn node(&self, path: &Path) -> io::Result<Node>;
    /// The paths in the directory `path`, sorted.
    fn directory(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Size in bytes of the tmpfs that `path` is on; `None` when it is on anything else.
    fn tmpfs_size(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Whether a driver of the host's kernel stands behind this device number.
    fn has_device(&self, kind: DeviceKind, major: u32, minor: u32) -> bool;
    /// Whether the image has a directory at `destination`.
    fn image_has_directory(&self, destination: &Path) -> bool;
    /// Where in the image the symbolic link at `destination` ends, if nothing is there yet.
    fn end_of_links(&self, destination: &Path) -> io::Result<Option<PathBuf>>;
    /// Whether the host's kernel has SELinux switched on.
    fn has_selinux(&self) -> bool;
    /// Whether the host's KVM lets guests run VMs.
    fn nests(&self) -> bool;
    /// Processors.
    fn processors(&self) -> usize;
    /// Memory in bytes.
    fn memory(&self) -> Option<u64>;
}

/// The real answers, for a container with this root file system.
#[derive(Debug)]
pub(crate) struct HostFacts {
    /// The root file system's path.
    pub(crate) rootfs: PathBuf,
}

impl Facts for HostFacts {
    fn node(&self, path: &Path) -> io::Result<Node> {
        let metadata = fs::metadata(path)?;
        let kind = metadata.file_type();
        let device = metadata.rdev();
        Ok(if kind.is_dir() {
            Node::Directory
        } else if kind.is_char_device() || kind.is_block_device() {
            Node::Device(DeviceNode {
                kind: if kind.is_block_device() {
                    DeviceKind::Block
                } else {
                    DeviceKind::Character
                },
                major: libc::major(device),
                minor: libc::minor(device),
                mode: metadata.mode() & 0o7777,
                uid: metadata.uid(),
                gid: metadata.gid(),
            })
        } else {
            Node::File
        })
    }

    fn directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        paths.sort();
        Ok(paths)
    }

    fn tmpfs_size(&self, path: &Path) -> io::Result<Option<u64>> {
        let status = nix::sys::statfs::statfs(path)?;
        if status.filesystem_type() != nix::sys::statfs::TMPFS_MAGIC {
            return Ok(None);
        }
        let block = u64::try_from(status.block_size()).unwrap_or(0);
        Ok(status.blocks().checked_mul(block))
    }

    fn has_device(&self, kind: DeviceKind, major: u32, minor: u32) -> bool {
        let kind = match kind {
            DeviceKind::Character => "char",
            DeviceKind::Block => "block",
            DeviceKind::Fifo => return false,
        };
        Path::new(&format!("/sys/dev/{kind}/{major}:{minor}")).exists()
    }

    fn image_has_directory(&self, destination: &Path) -> bool {
        open_in_root(&self.rootfs, destination, 0)
            .and_then(|found| nix::sys::stat::fstat(&found).map_err(io::Error::from))
            .is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFDIR)
    }

    fn end_of_links(&self, destination: &Path) -> io::Result<Option<PathBuf>> {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut place = destination.to_owned();
        // Links that lead in a circle are an error of the first call.
        loop {
            match open_in_root(&self.rootfs, &place, 0) {
                Err(error) if is_missing(&error) => {}
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(error),
                // What is there already, or cannot be looked at, is for who mounts.
                _ => return Ok(None),
            }
            let target = open_in_root(&self.rootfs, &place, libc::O_NOFOLLOW)
                .and_then(|link| Ok(nix::fcntl::readlinkat(&link, "")?));
            let Ok(target) = target else {
                // No link, or one in a directory that is missing itself.
                return Ok((place != destination).then_some(place));
            };
            let target = Path::new(&target);
            if target.components().any(|part| part == Component::ParentDir) {
                return Ok(None);
            }
            let parent = place.parent().unwrap_or(Path::new("/"));
            place = parent.join(target);
        }
    }

    fn has_selinux(&self) -> bool {
        Path::new("/sys/fs/selinux/enforce").exists()
    }

    fn nests(&self) -> bool {
        ["kvm_amd", "kvm_intel"].iter().any(|module| {
            fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
                .is_ok_and(|value| matches!(value.trim(), "1" | "Y"))
        })
    }

    fn processors(&self) -> usize {
        host::processors()
    }

    fn memory(&self) -> Option<u64> {
        host::memory()
    }
}

/// Opens `path` (O_PATH and `flags`) as a process with `root` as its root directory would: symbolic
/// links and `..` stay inside.
fn open_in_root(root: &Path, path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let root = fs::File::open(root)?;
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: an open_how of zeroes is valid: no flags, mode or resolve bits.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC | flags)
        .unsigned_abs()
        .into();
    how.resolve = libc::RESOLVE_IN_ROOT;
    // SAFETY: the path and the open_how outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    match i32::try_from(result) {
        // SAFETY: the kernel just gave us this descriptor.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_where_nothing_is_yet() {
        let image = tempfile::tempdir().unwrap();
        for (target, name) in [
            ("/no/such/end", "absolute"),
            ("second", "first"),
            ("folder/third", "second"),
            ("missing", "folder/third"),
            ("../up", "folder/climbs"),
            ("circle", "circle"),
            ("folder", "there"),
        ] {
            fs::create_dir_all(image.path().join("folder")).unwrap();
            symlink(target, image.path().join(name)).unwrap();
        }
        let facts = HostFacts {
            rootfs: image.path().to_owned(),
        };
        let end = |path: &str| facts.end_of_links(Path::new(path));
        for (path, wanted) in [
            ("/absolute", Some("/no/such/end")),
            ("/first", Some("/folder/missing")),
            // As it always was: what exists, what is no link, what climbs.
            ("/there", None),
            ("/there/third", Some("/there/missing")),
            ("/folder", None),
            ("/nothing", None),
            ("/nothing/below", None),
            ("/folder/climbs", None),
        ] {
            assert_eq!(end(path).unwrap(), wanted.map(PathBuf::from), "{path}");
        }
        let error = end("/circle").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }
}
