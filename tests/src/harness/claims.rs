//! Cases that several test VMs take from one list, each the next that no other has.
//!
//! xtask shows all of them one folder (its `test/part.rs`). A claim is a symbolic link there, named
//! after the case, to the name of the part that took it: made in one step, so that no case is run
//! twice, and none is lost when a VM dies under it, since the VM that goes on bears the same name.

use std::fs::read_link;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The variable that names the folder.
const FOLDER: &str = "KRUN_GPU_TESTS_CLAIMS";

/// Why a case is not run; xtask's tally knows it by this.
pub(crate) const TAKEN: &str = "taken by the other VM";

/// The folder of the claims, and who makes them here.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    folder: PathBuf,
    part: String,
}

impl Claims {
    /// Those of `part`, if cases are shared out at all.
    pub(crate) fn of(part: &str) -> Option<Self> {
        let folder = std::env::var_os(FOLDER)?.into();
        Some(Self {
            folder,
            part: part.to_owned(),
        })
    }

    /// Whether the case is this part's, from now on or already.
    ///
    /// # Errors
    /// The folder's.
    pub(crate) fn claim(&self, case: &str) -> std::io::Result<bool> {
        let claim = self.folder.join(case);
        match symlink(&self.part, &claim) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(read_link(&claim)? == Path::new(&self.part))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Claims;

    #[test]
    fn a_case_is_one_parts_however_often_it_asks() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["first", "second"].map(|part| Claims {
            folder: folder.path().to_owned(),
            part: part.to_owned(),
        });
        assert!(one.claim("group::case").unwrap());
        assert!(!other.claim("group::case").unwrap());
        assert!(one.claim("group::case").unwrap());
        assert!(other.claim("group::another").unwrap());
    }
}
