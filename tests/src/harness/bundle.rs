//! OCI bundles for the cases that call the runtime without an engine.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::command::{Output, sh_with};

/// A bundle in a directory of its own: crun's own `spec`, a busybox root, no terminal.
#[derive(Debug)]
pub(crate) struct Bundle {
    directory: tempfile::TempDir,
}

impl Bundle {
    /// A bundle that runs `arguments`.
    pub(crate) fn new(arguments: &[&str]) -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().display();
        let made = sh_with(
            "crun",
            &format!(
                "set -e; cd {path}; mkdir -p rootfs/bin; cp /bin/busybox rootfs/bin; \
                 for name in sh true cat echo sleep uname mkdir; do ln -s busybox rootfs/bin/$name; done; crun spec"
            ),
        )?;
        if made.status != 0 {
            return super::fail(format!("make a bundle: {made}"));
        }
        let bundle = Self { directory };
        bundle.edit(|config| {
            config["process"]["args"] = json!(arguments);
            config["process"]["terminal"] = json!(false);
        })?;
        Ok(bundle)
    }

    /// The bundle's directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its config.json.
    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("config.json")
    }

    /// Changes config.json.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) -> Result<(), Failed> {
        let mut config: Value = serde_json::from_slice(&fs::read(self.config())?)?;
        change(&mut config);
        fs::write(self.config(), serde_json::to_vec_pretty(&config)?)?;
        Ok(())
    }

    /// Runs `script` in the bundle's directory with `$RUNTIME`.
    pub(crate) fn sh(&self, runtime: &str, script: &str) -> Result<Output, Failed> {
        sh_with(runtime, &format!("cd {}\n{script}", self.path().display()))
    }
}
