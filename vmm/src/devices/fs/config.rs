//! What a file system device is told, and the configuration space that follows from it
//! (virtio 1.2, section 5.11.4). The builder makes it; the guest can only read it.

use std::path::PathBuf;
use std::time::Duration;

use super::FsError;

/// The longest tag, in bytes: the field of the configuration space has no room for more.
const TAG_LENGTH: usize = 36;

/// The most request queues that are worth a thread each.
const WORKERS: usize = 4;

/// A directory of this process and how the guest gets it.
#[derive(Clone, Debug)]
pub struct FsConfig {
    /// The name that the guest mounts it by: 1 to 36 bytes, without NUL.
    pub tag: String,
    /// The directory, as this process sees it when the device is made (normally `/`, after
    /// `pivot_root`). Mounts beneath it are exported too, as submounts.
    pub directory: PathBuf,
    /// Request queues, with a thread each: 1 to 64. More than the guest has vCPUs are not used.
    pub workers: usize,
    /// How long the guest may rely on a name or on attributes without asking again. What the
    /// host changes is seen this much later at most.
    pub timeout: Duration,
    /// Directories that the guest sees although there are none.
    pub grafts: Vec<Graft>,
}

/// A directory beneath the exported one that the guest sees at another path as well, as far as
/// there is nothing. It is the mount point for what the guest mounts there, and spares the
/// exported directory one.
#[derive(Clone, Debug)]
pub struct Graft {
    /// Where the directories wait: the one for `path` is at `base` followed by `path`. Both are
    /// paths in the exported directory.
    pub base: PathBuf,
    /// Where the guest sees it. Its first component must exist.
    pub path: PathBuf,
}

impl FsConfig {
    /// The directory under that tag, for a guest with so many vCPUs. Names and attributes are
    /// valid for one second: `podman cp` and other users of a volume change files under the guest.
    pub fn new(tag: impl Into<String>, directory: impl Into<PathBuf>, vcpus: usize) -> Self {
        Self {
            tag: tag.into(),
            directory: directory.into(),
            workers: vcpus.clamp(1, WORKERS),
            timeout: Duration::from_secs(1),
            grafts: Vec::new(),
        }
    }

    /// The configuration space: the tag, padded with NUL, and the number of request queues.
    pub(super) fn space(&self) -> Result<[u8; TAG_LENGTH + 4], FsError> {
        let tag = self.tag.as_bytes();
        let mut space = [0; TAG_LENGTH + 4];
        let (name, queues) = space.split_at_mut(TAG_LENGTH);
        match name.get_mut(..tag.len()) {
            Some(field) if !tag.is_empty() && !tag.contains(&0) => field.copy_from_slice(tag),
            _ => return Err(FsError::Tag(self.tag.clone())),
        }
        let count = u32::try_from(self.workers)
            .ok()
            .filter(|count| (1..=64).contains(count))
            .ok_or(FsError::Workers(self.workers))?;
        queues.copy_from_slice(&count.to_le_bytes());
        Ok(space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_holds_the_tag_and_the_queues() {
        let space = FsConfig::new("krun-root", "/", 2).space().unwrap();
        assert_eq!(&space[..10], b"krun-root\0");
        assert_eq!(&space[36..], 2u32.to_le_bytes());
    }

    #[test]
    fn bad_tags_and_worker_counts_are_refused() {
        for tag in ["", "a\0b", &"x".repeat(37)] {
            assert!(matches!(
                FsConfig::new(tag, "/", 1).space(),
                Err(FsError::Tag(_))
            ));
        }
        assert!(FsConfig::new("x".repeat(36), "/", 1).space().is_ok());
        for workers in [0, 65] {
            let config = FsConfig {
                workers,
                ..FsConfig::new("tag", "/", 1)
            };
            assert!(matches!(config.space(), Err(FsError::Workers(_))));
        }
    }
}
