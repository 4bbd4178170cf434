//! Where things go in an installation: `PREFIX/bin/krun-gpu`, what it looks for relative to
//! itself in `PREFIX/lib/krun-gpu`, the registration with Podman, and the CDI device.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{BuildError, Products, file};

/// The registration with Podman, in the checkout.
const DROP_IN: &str = "contrib/containers.conf.d/50-krun-gpu.conf";

/// The GPU as a CDI device, in the checkout.
const CDI: &str = "contrib/cdi/krun-gpu.json";

/// The two roots of an installation.
#[derive(Clone, Debug)]
pub(crate) struct Prefix {
    /// Programs and what belongs to them, such as `/usr/local`.
    pub(crate) prefix: PathBuf,
    /// Configuration: `/etc` for `/usr` and `/usr/local`, else `PREFIX/etc`.
    pub(crate) etc: PathBuf,
}

impl Prefix {
    /// The roots for `prefix`, below `destination` (a package's `DESTDIR`; `/` for none).
    pub(crate) fn new(prefix: &Path, destination: &Path) -> Self {
        let system = prefix == Path::new("/usr") || prefix == Path::new("/usr/local");
        let etc = if system {
            PathBuf::from("/etc")
        } else {
            prefix.join("etc")
        };
        let below = |path: &Path| destination.join(path.strip_prefix("/").unwrap_or(path));
        Self {
            prefix: below(prefix),
            etc: below(&etc),
        }
    }
}

/// Files to install: source, target, mode.
#[derive(Debug)]
pub(crate) struct Layout(Vec<(PathBuf, PathBuf, u32)>);

impl Layout {
    /// What a user installs.
    pub(crate) fn new(products: &Products, checkout: &Path, roots: &Prefix) -> Self {
        let Prefix { prefix, etc } = roots;
        let library = prefix.join("lib/krun-gpu");
        let drop_in = etc.join("containers/containers.conf.d/50-krun-gpu.conf");
        Self(vec![
            (products.runtime.clone(), prefix.join("bin/krun-gpu"), 0o755),
            (products.kernel.clone(), library.join("vmlinux"), 0o644),
            (
                products.initramfs.clone(),
                library.join("initramfs.cpio"),
                0o644,
            ),
            (
                products.initramfs_gpu.clone(),
                library.join("initramfs-gpu.cpio"),
                0o644,
            ),
            (checkout.join(DROP_IN), drop_in, 0o644),
            (checkout.join(CDI), etc.join("cdi/krun-gpu.json"), 0o644),
        ])
    }

    /// Adds the tests, for the test VM.
    pub(crate) fn with_tests(mut self, products: &Products, roots: &Prefix) -> Self {
        let folder = roots.prefix.join("libexec/krun-gpu");
        for program in [
            &products.tests,
            &products.compute,
            &products.vtest,
            &products.vtest_inside,
            &products.driver,
        ] {
            let target = folder.join(program.file_name().unwrap_or_default());
            self.0.push((program.clone(), target, 0o755));
        }
        self
    }

    /// Leaves out what was never built.
    pub(crate) fn only_existing(mut self) -> Self {
        self.0.retain(|(source, _, _)| source.exists());
        self
    }

    /// Copies everything. A file that is in use is replaced, not written over.
    pub(crate) fn install(&self) -> Result<Vec<&Path>, BuildError> {
        for (source, target, mode) in &self.0 {
            let folder = target.parent().unwrap_or(target);
            fs::create_dir_all(folder).map_err(file("create", folder))?;
            let new = target.with_extension("new");
            fs::copy(source, &new).map_err(file("copy", source))?;
            fs::set_permissions(&new, fs::Permissions::from_mode(*mode))
                .map_err(file("set the mode of", &new))?;
            fs::rename(&new, target).map_err(file("rename", &new))?;
        }
        Ok(self
            .0
            .iter()
            .map(|(_, target, _)| target.as_path())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_of_a_system_prefix_goes_to_etc() {
        let roots = |prefix: &str, destination: &str| {
            let roots = Prefix::new(Path::new(prefix), Path::new(destination));
            (roots.prefix, roots.etc)
        };
        let pair = |prefix: &str, etc: &str| (PathBuf::from(prefix), PathBuf::from(etc));
        assert_eq!(roots("/usr/local", "/"), pair("/usr/local", "/etc"));
        assert_eq!(roots("/usr", "/tmp/d"), pair("/tmp/d/usr", "/tmp/d/etc"));
        assert_eq!(roots("/opt/k", "/"), pair("/opt/k", "/opt/k/etc"));
    }
}
