//! A program run inside the tree: it changes its root just before it starts, and it dies with
//! xtask. The root is pivoted, in a mount namespace of the program's own, since the kernel denies
//! user namespaces to what is merely chrooted, and paths in /proc would be wrong.

use std::{
    env,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    mount::{UnmountFlags, unmount},
    process::{Signal, chdir, pivot_root, set_parent_process_death_signal},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Builds the command; `finish` gives a [`Command`] to set streams on and to run.
#[derive(Debug)]
pub(crate) struct TreeCommand {
    command: Command,
    root: PathBuf,
    directory: PathBuf,
    inherited: Vec<OwnedFd>,
}

impl TreeCommand {
    pub(super) fn new(root: &Path, program: &str) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8");
        if let Some(terminal) = env::var_os("TERM") {
            command.env("TERM", terminal);
        }
        Self {
            command,
            root: root.to_owned(),
            directory: PathBuf::from("/"),
            inherited: Vec::new(),
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The working directory, a path in the tree.
    pub(crate) fn directory(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.directory);
        self
    }

    /// Lets the program have this descriptor, under its own number.
    pub(crate) fn inherit(mut self, descriptor: OwnedFd) -> Self {
        self.inherited.push(descriptor);
        self
    }

    /// The command, ready to run.
    pub(crate) fn finish(self) -> Command {
        let Self {
            mut command,
            root,
            directory,
            inherited,
        } = self;
        let enter = move || {
            for descriptor in &inherited {
                fcntl_setfd(descriptor, FdFlags::empty())?;
            }
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // SAFETY: only the mount namespace changes; no descriptor table is split.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
            chdir(&root)?;
            pivot_root(".", ".")?;
            unmount(".", UnmountFlags::DETACH)?;
            chdir(&directory)?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls only. The paths are short
        // enough for rustix to terminate them on the stack, so it does not allocate.
        unsafe { command.pre_exec(enter) };
        command
    }
}
