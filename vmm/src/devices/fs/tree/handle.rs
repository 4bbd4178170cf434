//! The files and directories that the guest has open.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::io::{Errno, Result};

use super::budget::{Budget, Permit};

/// An open file or directory.
#[derive(Debug)]
pub(super) struct Handle {
    node: u64,
    pub(super) file: File,
    position: Mutex<()>,
    _permit: Permit,
}

impl Handle {
    /// Holds the descriptor's position: for as long as this lives, nobody else moves it.
    pub(super) fn position(&self) -> MutexGuard<'_, ()> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every handle that the guest holds. Numbers are not used twice.
#[derive(Debug)]
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    last: AtomicU64,
    budget: Budget,
}

impl Handles {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            open: RwLock::default(),
            last: AtomicU64::new(0),
            budget,
        }
    }

    pub(super) fn insert(&self, node: u64, file: File) -> Result<u64> {
        let permit = self.budget.take()?;
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = Handle {
            node,
            file,
            position: Mutex::new(()),
            _permit: permit,
        };
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, Arc::new(handle));
        Ok(number)
    }

    /// The handle, if it was opened on this node.
    pub(super) fn get(&self, number: u64, node: u64) -> Result<Arc<Handle>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&number)
            .filter(|handle| handle.node == node)
            .cloned()
            .ok_or(Errno::BADF)
    }

    pub(super) fn remove(&self, number: u64, node: u64) -> Result<()> {
        self.get(number, node)?;
        let removed = self
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
        // The last reference closes the file, and not under the lock: closing may take long.
        drop(removed);
        Ok(())
    }

    pub(super) fn clear(&self) {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
