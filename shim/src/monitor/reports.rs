//! Files by which the monitor tells its caller how a container ended.
//!
//! Their directories are opened before the container's root is entered.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};

/// Where reports go.
#[derive(Debug)]
pub(crate) struct Reports {
    /// The state directory.
    state: File,
    /// Directories in which Podman looks for a file `oom`: the bundle (4.x) and conmon's
    /// persistent directory (5.x).
    oom: Vec<File>,
}

impl Reports {
    /// Opens the directories.
    pub(crate) fn open(state: &Path, bundle: &Path) -> io::Result<Self> {
        let mut oom = Vec::new();
        for directory in [Some(bundle.to_owned()), persist_directory()]
            .into_iter()
            .flatten()
        {
            // A directory that is not there is looked into by nobody.
            oom.extend(File::open(directory));
        }
        Ok(Self {
            state: File::open(state)?,
            oom,
        })
    }

    /// Tells that the kernel ended a process for its memory.
    pub(super) fn out_of_memory(&self) {
        for directory in &self.oom {
            // The caller may have removed its directory; then it does not ask.
            let _ = create(directory, "oom");
        }
    }

    /// Keeps the guest's last console lines.
    pub(super) fn console(&self, text: &[u8]) {
        // The state directory goes with `delete`, which may have been quicker.
        if let Ok(mut file) = create(&self.state, "console.log") {
            let _ = file.write_all(text);
        }
    }
}

/// conmon's `--persist-dir`, from its command line: it is our parent.
fn persist_directory() -> Option<PathBuf> {
    let parent = nix::unistd::getppid();
    let line = fs::read(format!("/proc/{parent}/cmdline")).ok()?;
    find_persist_directory(&line)
}

fn find_persist_directory(line: &[u8]) -> Option<PathBuf> {
    let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    if !words.next()?.ends_with("conmon") {
        return None;
    }
    while let Some(word) = words.next() {
        if word == "--persist-dir" {
            return words.next().map(|path| PathBuf::from(path.into_owned()));
        }
        if let Some(path) = word.strip_prefix("--persist-dir=") {
            return Some(PathBuf::from(path));
        }
    }
    None
}

/// Creates `name` in an open directory, whatever the process' root is by now.
fn create(directory: &File, name: &str) -> io::Result<File> {
    let name = CString::new(name)?;
    // SAFETY: the name lives through the call, the directory is open.
    let result = unsafe {
        libc::openat(
            directory.as_raw_fd(),
            name.as_ptr(),
            libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC | libc::O_NOFOLLOW,
            0o644,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { File::from_raw_fd(result) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conmons_command_line() {
        let line = b"/usr/bin/conmon\0-c\0x\0--persist-dir\0/run/p\0--full-attach\0";
        assert_eq!(find_persist_directory(line), Some("/run/p".into()));
        let line = b"/usr/bin/conmon\0--persist-dir=/run/q\0";
        assert_eq!(find_persist_directory(line), Some("/run/q".into()));
        assert_eq!(
            find_persist_directory(b"bash\0--persist-dir\0/run/p\0"),
            None
        );
        assert_eq!(find_persist_directory(b""), None);
    }

    #[test]
    fn reports_are_written_into_open_directories() {
        let root = tempfile::tempdir().unwrap();
        let reports = Reports::open(root.path(), root.path()).unwrap();
        reports.out_of_memory();
        reports.console(b"the end");
        assert!(root.path().join("oom").exists());
        assert_eq!(
            fs::read(root.path().join("console.log")).unwrap(),
            b"the end"
        );
    }
}
