//! GETXATTR, SETXATTR, LISTXATTR and REMOVEXATTR: extended attributes.
//!
//! The system calls for attributes take no descriptor opened with `O_PATH`, only paths. A
//! worker's working directory is this process's `/proc/self/fd`, so the number of a descriptor
//! is a path to its file, whatever the guest has made of `/proc`.

use std::ffi::CStr;

use fuse_backend_rs::api::filesystem::{Context, GetxattrReply, ListxattrReply};
use rustix::buffer::spare_capacity;
use rustix::fs::{
    XattrFlags, getxattr, getxattr_query, listxattr, listxattr_query, removexattr, setxattr,
};
use rustix::io::{Errno, Result};
use rustix::path::DecInt;
use rustix::thread::CapabilitySet;

use super::{Tree, identity, names};

/// The largest value, and the largest list of names, that Linux knows.
const LARGEST: u32 = 64 * 1024;

impl Tree {
    pub(super) fn attribute(&self, node: u64, name: &CStr, size: u32) -> Result<GetxattrReply> {
        let name = names::attribute(name)?;
        let inode = self.inodes.get(node)?;
        let file = DecInt::from_fd(&*inode);
        if size == 0 {
            return getxattr_query(file, name).map(|size| GetxattrReply::Count(saturated(size)));
        }
        let mut value = Vec::with_capacity(capacity(size));
        getxattr(file, name, spare_capacity(&mut value))?;
        Ok(GetxattrReply::Value(value))
    }

    pub(super) fn attributes(&self, node: u64, size: u32) -> Result<ListxattrReply> {
        let inode = self.inodes.get(node)?;
        let file = DecInt::from_fd(&*inode);
        let mut all = Vec::with_capacity(listxattr_query(file.as_c_str())?);
        if all.capacity() > 0 {
            listxattr(file.as_c_str(), spare_capacity(&mut all))?;
        }
        let exported: Vec<u8> = all
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| names::is_exported(name.strip_suffix(b"\0").unwrap_or(name)))
            .flatten()
            .copied()
            .collect();
        match saturated(exported.len()) {
            needed if size == 0 => Ok(ListxattrReply::Count(needed)),
            needed if needed > size => Err(Errno::RANGE),
            _ => Ok(ListxattrReply::Names(exported)),
        }
    }

    pub(super) fn set_attribute(
        &self,
        context: &Context,
        node: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> Result<()> {
        let name = names::attribute(name)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let inode = self.inodes.get(node)?;
        let set = || setxattr(DecInt::from_fd(&*inode), name, value, flags);
        // An access control list sets the mode too; the set-group-id bit stays only for those
        // who may keep it.
        if names::is_acl(name.to_bytes()) && context.uid != 0 {
            return identity::making(context, 0, || identity::without(CapabilitySet::FSETID, set));
        }
        set()
    }

    pub(super) fn remove_attribute(&self, node: u64, name: &CStr) -> Result<()> {
        let name = names::attribute(name)?;
        removexattr(DecInt::from_fd(&*self.inodes.get(node)?), name)
    }
}

fn capacity(size: u32) -> usize {
    usize::try_from(size.min(LARGEST)).unwrap_or(0)
}

fn saturated(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
