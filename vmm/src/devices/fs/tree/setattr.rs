//! SETATTR: mode, owner, size and times.

use fuse_backend_rs::api::filesystem::SetattrValid;
use libc::stat64;
use rustix::fs::{
    AtFlags, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, chmodat, chownat, ftruncate,
    utimensat,
};
use rustix::io::{Errno, Result};
use rustix::path::DecInt;
use rustix::thread::CapabilitySet;

use super::create::permissions;
use super::inode::Inode;
use super::status::Status;
use super::{Tree, identity};

impl Tree {
    /// Sets those of the `wanted` attributes that `valid` names, and returns them all.
    pub(super) fn set_attributes(
        &self,
        node: u64,
        wanted: &stat64,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> Result<stat64> {
        let inode = self.inodes.get(node)?;
        let file = DecInt::from_fd(&*inode);
        if valid.contains(SetattrValid::MODE) {
            chmodat(
                &self.descriptors,
                file.as_c_str(),
                permissions(wanted.st_mode),
                AtFlags::empty(),
            )?;
        }
        if valid.intersects(SetattrValid::UID | SetattrValid::GID) {
            let owner = valid
                .contains(SetattrValid::UID)
                .then(|| identity::uid(wanted.st_uid));
            let group = valid
                .contains(SetattrValid::GID)
                .then(|| identity::gid(wanted.st_gid));
            let (owner, group) = (owner.transpose()?, group.transpose()?);
            chownat(&*inode, c"", owner, group, AtFlags::EMPTY_PATH)?;
        }
        if valid.contains(SetattrValid::SIZE) {
            let size = u64::try_from(wanted.st_size).map_err(|_| Errno::INVAL)?;
            let truncate = || self.truncate(&inode, handle, size);
            if valid.contains(SetattrValid::KILL_SUIDGID) {
                identity::without(CapabilitySet::FSETID, truncate)?;
            } else {
                truncate()?;
            }
        }
        if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
            utimensat(
                &self.descriptors,
                file.as_c_str(),
                &times(wanted, valid),
                AtFlags::empty(),
            )?;
        }
        let status = Status::of(&*inode)?;
        inode.tell(&status);
        Ok(status.attributes())
    }

    fn truncate(&self, inode: &Inode, handle: Option<u64>, size: u64) -> Result<()> {
        match handle {
            Some(handle) => ftruncate(&self.handles.get(handle, inode.node)?.file, size),
            None => {
                let inode = self.regular(inode.node)?;
                ftruncate(self.reopen(&*inode, OFlags::WRONLY)?, size)
            }
        }
    }
}

fn times(wanted: &stat64, valid: SetattrValid) -> Timestamps {
    let time = |set, now, tv_sec, tv_nsec| Timespec {
        tv_sec,
        tv_nsec: match (valid.contains(set), valid.contains(now)) {
            (_, true) => UTIME_NOW,
            (true, false) => tv_nsec,
            (false, false) => UTIME_OMIT,
        },
    };
    Timestamps {
        last_access: time(
            SetattrValid::ATIME,
            SetattrValid::ATIME_NOW,
            wanted.st_atime,
            wanted.st_atime_nsec,
        ),
        last_modification: time(
            SetattrValid::MTIME,
            SetattrValid::MTIME_NOW,
            wanted.st_mtime,
            wanted.st_mtime_nsec,
        ),
    }
}
