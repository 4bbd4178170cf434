//! Cargo's target folder, which all checkouts share: a new one need not build every crate anew.
//!
//! Cargo names our packages by their paths inside the workspace and goes by times: what another
//! checkout built last passes for ours if our files are older than that build.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{BuildError, file};

/// Makes cargo build our packages anew if `target` was last used for another checkout.
pub(super) fn claim(target: &Path, checkout: &Path) -> Result<(), BuildError> {
    let metadata = fs::metadata(checkout).map_err(file("look at", checkout))?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let user = format!("{} {device}:{inode}\n", checkout.display());
    let path = target.join("checkout");
    if fs::read_to_string(&path).is_ok_and(|last| last == user) {
        return Ok(());
    }
    forget(target).map_err(file("forget what was built in", target))?;
    fs::create_dir_all(target).map_err(file("create", target))?;
    fs::write(&path, user).map_err(file("write", &path))
}

/// Removes what cargo knows of builds of our packages, in every profile of every platform.
fn forget(target: &Path) -> io::Result<()> {
    let mut profiles = subfolders(target)?;
    for platform in profiles.clone() {
        profiles.extend(subfolders(&platform)?);
    }
    for profile in profiles {
        for package in subfolders(&profile.join(".fingerprint"))? {
            let name = package.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("krun-gpu-") || name.starts_with("xtask-") {
                fs::remove_dir_all(&package)?;
            }
        }
    }
    Ok(())
}

/// The folders in `folder`; none if it does not exist.
fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_checkout_built_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let checkouts = ["ours", "another"].map(|name| folder.path().join(name));
        for checkout in &checkouts {
            fs::create_dir(checkout).unwrap();
        }
        claim(&target, &checkouts[0]).unwrap();
        let built = |name: &str| target.join("release/.fingerprint").join(name);
        let agent = target.join("x86_64/agent/.fingerprint/krun-gpu-agent-1");
        for path in [&built("krun-gpu-2"), &built("serde-3"), &agent] {
            fs::create_dir_all(path).unwrap();
        }
        let there = || [&built("krun-gpu-2"), &built("serde-3"), &agent].map(|path| path.exists());
        claim(&target, &checkouts[0]).unwrap();
        assert_eq!(there(), [true, true, true]);
        claim(&target, &checkouts[1]).unwrap();
        assert_eq!(there(), [false, true, false]);
    }
}
