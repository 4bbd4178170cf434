//! Names from the guest: of directory entries and of extended attributes. Untrusted, and checked
//! before any of them reaches a system call.

use std::ffi::CStr;

use rustix::io::{Errno, Result};

/// The longest name of a directory entry on Linux, in bytes.
const NAME_MAX: usize = 255;

/// Lets one component of a path through: no separator, and nothing that leads out of its
/// directory. The guest's kernel resolves `.` and `..` itself, so it never asks for them.
pub(super) fn component(name: &CStr) -> Result<&CStr> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        bytes if bytes.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
        _ => Ok(name),
    }
}

/// Lets an extended attribute through that means the same on the host as in the guest.
///
/// `trusted.*` would let the guest steer the host's overlayfs on a volume, and the labels of the
/// host's security modules (`security.selinux`, `security.ima`, ...) are not the guest's to set.
pub(super) fn attribute(name: &CStr) -> Result<&CStr> {
    if is_exported(name.to_bytes()) {
        Ok(name)
    } else {
        Err(Errno::OPNOTSUPP)
    }
}

/// Whether the guest may know of an extended attribute of this name.
pub(super) fn is_exported(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability" || is_acl(name)
}

/// Whether this is an access control list, which may change the mode of its file.
pub(super) fn is_acl(name: &[u8]) -> bool {
    matches!(
        name,
        b"system.posix_acl_access" | b"system.posix_acl_default"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_stay_in_their_directory() {
        for name in [c"", c".", c"..", c"/", c"a/b", c"../a", c"a/", c"/etc"] {
            assert_eq!(component(name), Err(Errno::INVAL), "{name:?}");
        }
        for name in [c"a", c"...", c"..a", c".a", c"a b", c"\xff\xfe", c"a\\b"] {
            assert_eq!(component(name), Ok(name));
        }
        let long = std::ffi::CString::new(vec![b'n'; 255]).unwrap();
        assert!(component(&long).is_ok());
        let longer = std::ffi::CString::new(vec![b'n'; 256]).unwrap();
        assert_eq!(component(&longer), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn attributes_of_the_host_are_hidden() {
        for name in [
            c"user.a",
            c"security.capability",
            c"system.posix_acl_default",
        ] {
            assert!(attribute(name).is_ok(), "{name:?}");
        }
        for name in [
            c"trusted.overlay.opaque",
            c"security.selinux",
            c"security.ima",
            c"system.x",
        ] {
            assert_eq!(attribute(name), Err(Errno::OPNOTSUPP), "{name:?}");
        }
    }
}
