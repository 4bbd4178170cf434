//! Paths of the container: resolved inside its root, never outside, whatever links the image has.
//!
//! Called by the rest of `workload/`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

/// What a mount point has to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else: a regular file will do.
    File,
}

/// Opens `path` (absolute in the container) with links resolved against `root`. `O_PATH` without
/// `O_DIRECTORY` does not cross a mount that the host would make on demand at its end.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    loop {
        let opened = openat2(
            root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        // The kernel gives up with EAGAIN when a rename raced with `..`.
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            return opened;
        }
    }
}

/// Opens the mount point `path`, and creates it with its parents where it is missing: on the
/// guest's own file systems nobody else does.
pub(crate) fn mount_point(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
    match resolve(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let (parent, name) = split(path).ok_or(Errno::INVAL)?;
    let parent = directories(root, &parent)?;
    match kind {
        Kind::Directory => ignore_existing(mkdirat(&parent, name, Mode::from(0o755)))?,
        Kind::File => drop(openat(
            &parent,
            name,
            OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from(0o644),
        )?),
    }
    resolve(root, path, OFlags::PATH)
}

/// Opens the directory `path`, creating what is missing.
pub(crate) fn directories(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    match resolve(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let mut prefix = PathBuf::from("/");
    let mut current = resolve(root, &prefix, OFlags::PATH | OFlags::DIRECTORY)?;
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                prefix.push(name);
                current = match resolve(root, &prefix, OFlags::PATH | OFlags::DIRECTORY) {
                    Err(Errno::NOENT) => {
                        ignore_existing(mkdirat(&current, name, Mode::from(0o755)))?;
                        resolve(root, &prefix, OFlags::PATH | OFlags::DIRECTORY)?
                    }
                    opened => opened?,
                };
            }
            Component::ParentDir => {
                prefix.push("..");
                current = resolve(root, &prefix, OFlags::PATH | OFlags::DIRECTORY)?;
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(current)
}

/// Makes the process' working directory where it is missing, as crun does. A failure shows when
/// the process changes into it.
pub(crate) fn create_working_directory(root: &impl AsFd, cwd: &str) {
    drop(directories(root.as_fd(), Path::new(cwd)));
}

/// A path's parent and its last name.
pub(crate) fn split(path: &Path) -> Option<(PathBuf, &std::ffi::OsStr)> {
    Some((path.parent()?.to_path_buf(), path.file_name()?))
}

fn ignore_existing(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(name: &str) -> (PathBuf, OwnedFd) {
        let folder =
            std::env::temp_dir().join(format!("krun-gpu-path-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir(&folder).unwrap();
        let root = rustix::fs::open(&folder, OFlags::PATH, Mode::empty()).unwrap();
        (folder, root)
    }

    #[test]
    fn links_of_the_image_stay_inside_the_root() {
        let (folder, root) = tree("links");
        symlink("/run", folder.join("var")).unwrap();
        symlink("../../../../etc", folder.join("up")).unwrap();
        mount_point(root.as_fd(), Path::new("/var/lock/file"), Kind::File).unwrap_err();
        fs::create_dir(folder.join("run")).unwrap();
        mount_point(root.as_fd(), Path::new("/var/lock/file"), Kind::File).unwrap();
        assert!(folder.join("run/lock/file").is_file());
        fs::create_dir(folder.join("etc")).unwrap();
        mount_point(root.as_fd(), Path::new("/up/made"), Kind::Directory).unwrap();
        assert!(folder.join("etc/made").is_dir());
        fs::remove_dir_all(folder).unwrap();
    }
}
