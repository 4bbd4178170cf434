//! The inodes that the guest knows of: each a number for the guest and a descriptor for us.
//!
//! The descriptor is opened with `O_PATH`, so it names the file and cannot read or write it. All
//! later work starts from it, never from a name again. The guest says how many references it gave
//! up (FORGET); a number is not used twice, so a stale one is an error and not another file.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use fuse_backend_rs::api::filesystem::ROOT_ID;
use rustix::fs::FileType;
use rustix::io::{Errno, Result};

use super::budget::{Budget, Permit};
use super::status::{Status, Version};

/// What tells files apart. The mount is part of it: a file that is bound twice is two files for
/// the guest, each with the flags of its mount.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct InodeId {
    pub(super) device: u64,
    pub(super) number: u64,
    pub(super) mount: u64,
}

/// A file that the guest knows of.
#[derive(Debug)]
pub(super) struct Inode {
    /// The guest's number for it.
    pub(super) node: u64,
    pub(super) id: InodeId,
    pub(super) file_type: FileType,
    path: OwnedFd,
    _permit: Option<Permit>,
    lookups: AtomicU64,
    /// The version that the guest's page cache was filled from, as of the last OPEN, if a later
    /// one can be told from it.
    cached: Mutex<Option<Version>>,
    /// The size that the guest's kernel goes by.
    told_size: AtomicU64,
    /// When an OPEN was last sent back for being based on another size.
    refused: Mutex<Option<Instant>>,
}

/// The guest's kernel tries an OPEN that it is sent back with once more; for this long nobody's
/// second try is refused.
const PATIENCE: Duration = Duration::from_secs(1);

impl Inode {
    fn new(node: u64, path: OwnedFd, status: &Status, permit: Option<Permit>) -> Arc<Self> {
        Arc::new(Self {
            node,
            id: status.id(),
            file_type: status.file_type(),
            path,
            _permit: permit,
            lookups: AtomicU64::new(1),
            cached: Mutex::new(None),
            told_size: AtomicU64::new(status.size()),
            refused: Mutex::new(None),
        })
    }

    /// Notes that the guest gets these attributes.
    pub(super) fn tell(&self, status: &Status) {
        self.told_size.store(status.size(), Ordering::Relaxed);
    }

    /// Notes that the guest's own write made the file reach to `end`.
    pub(super) fn reached(&self, end: u64) {
        self.told_size.fetch_max(end, Ordering::Relaxed);
    }

    /// Whether the guest is to ask for the attributes again before it opens the file: somebody
    /// else changed its size, and up to the one it knows is all that its reads would return.
    pub(super) fn is_stale(&self, size: u64) -> bool {
        if self.told_size.load(Ordering::Relaxed) == size {
            return false;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_some_and(|at| at.elapsed() < PATIENCE) {
            return false;
        }
        *refused = Some(Instant::now());
        true
    }

    /// Whether the contents are still those that the guest's page cache was filled from. From now
    /// on, `version` is.
    pub(super) fn is_cached(&self, version: Version) -> bool {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cached = *cached == Some(version);
        *cached = version.is_settled().then_some(version);
        is_cached
    }
}

impl AsFd for Inode {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.path.as_fd()
    }
}

/// All inodes that the guest knows of.
#[derive(Debug)]
pub(super) struct Inodes {
    maps: RwLock<Maps>,
    next: AtomicU64,
    budget: Budget,
}

#[derive(Debug)]
struct Maps {
    root: Arc<Inode>,
    by_node: HashMap<u64, Arc<Inode>>,
    by_id: HashMap<InodeId, Arc<Inode>>,
}

impl Inodes {
    /// Only the root, which is never forgotten.
    pub(super) fn new(root: OwnedFd, status: &Status, budget: Budget) -> Self {
        let root = Inode::new(ROOT_ID, root, status, None);
        let maps = Maps {
            root,
            by_node: HashMap::new(),
            by_id: HashMap::new(),
        };
        let inodes = Self {
            maps: RwLock::new(maps),
            next: AtomicU64::new(ROOT_ID + 1),
            budget,
        };
        inodes.clear();
        inodes
    }

    /// Forgets everything but the root.
    pub(super) fn clear(&self) {
        let mut maps = self.write();
        let root = maps.root.clone();
        maps.by_node = HashMap::from([(root.node, root.clone())]);
        maps.by_id = HashMap::from([(root.id, root)]);
    }

    pub(super) fn get(&self, node: u64) -> Result<Arc<Inode>> {
        self.read().by_node.get(&node).cloned().ok_or(Errno::STALE)
    }

    /// The inode with this id, with one more reference of the guest's, if it is known.
    pub(super) fn acquire(&self, id: &InodeId) -> Option<Arc<Inode>> {
        let maps = self.read();
        let inode = maps.by_id.get(id)?;
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        Some(inode.clone())
    }

    /// The inode of the file that `path` is open on, with one more reference of the guest's.
    pub(super) fn insert(&self, path: OwnedFd, status: &Status) -> Result<Arc<Inode>> {
        let mut maps = self.write();
        if let Some(inode) = maps.by_id.get(&status.id()) {
            inode.lookups.fetch_add(1, Ordering::Relaxed);
            return Ok(inode.clone());
        }
        let permit = Some(self.budget.take()?);
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        let inode = Inode::new(node, path, status, permit);
        maps.by_node.insert(inode.node, inode.clone());
        maps.by_id.insert(inode.id, inode.clone());
        Ok(inode)
    }

    /// Takes back references of the guest's, for pairs of node and count.
    pub(super) fn forget(&self, forgotten: impl IntoIterator<Item = (u64, u64)>) {
        let mut maps = self.write();
        for (node, count) in forgotten {
            let Some(inode) = maps
                .by_node
                .get(&node)
                .filter(|inode| inode.node != ROOT_ID)
            else {
                continue;
            };
            // References are only added with the lock held, so nothing comes in between.
            let left = inode.lookups.load(Ordering::Relaxed).saturating_sub(count);
            inode.lookups.store(left, Ordering::Relaxed);
            if left == 0 {
                let id = inode.id;
                maps.by_id.remove(&id);
                maps.by_node.remove(&node);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }
}
