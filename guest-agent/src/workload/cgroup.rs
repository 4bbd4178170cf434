//! The workload's cgroup in the guest (cgroup v2): limits, events, statistics, its processes.
//!
//! Called by the agent. The host's cgroup limits the VM; this one makes the guest's kernel kill
//! the workload's process, and not the VM's, when it is over its memory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use krun_gpu_protocol::Limits;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::sys::signal;

/// What can go wrong with the workload's cgroup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// It cannot be made.
    #[error("create the workload's cgroup `{}`", path.display())]
    Create {
        /// Where it should be.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// One of its files cannot be read or opened.
    #[error("read `{file}` of the workload's cgroup")]
    Read {
        /// The file's name.
        file: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A limit is not taken.
    #[error("write `{value}` to `{file}` of the workload's cgroup")]
    Write {
        /// The file's name.
        file: String,
        /// The value.
        value: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A name in `linux.resources.unified` is not one of a file.
    #[error("linux.resources.unified: `{file}` is not the name of a cgroup file")]
    Name {
        /// The name.
        file: String,
    },
}

/// The workload's cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
    events: Option<File>,
}

/// Lets the children of the cgroup at `root` have every controller that it has.
pub(crate) fn delegate(root: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    let line: Vec<String> = controllers
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    if line.is_empty() {
        return Ok(());
    }
    fs::write(root.join("cgroup.subtree_control"), line.join(" "))
}

impl Cgroup {
    /// Makes the cgroup below `root`.
    pub(crate) fn create(root: &Path) -> Result<Self, CgroupError> {
        let path = root.join("workload");
        let failed = |source| CgroupError::Create {
            path: path.clone(),
            source,
        };
        fs::create_dir(&path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            open(&path, flags, Mode::empty()).map_err(|source| failed(source.into()))?;
        let events = match File::open(path.join("memory.events")) {
            // A kernel without the memory controller has no OOM kills of a cgroup to report.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened.map_err(|source| CgroupError::Read {
                file: "memory.events".into(),
                source,
            })?),
        };
        Ok(Self {
            path,
            directory,
            events,
        })
    }

    /// The directory, for clone3's `CLONE_INTO_CGROUP`.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The directory of the cgroup, here or below, that a process is in.
    pub(crate) fn directory_of(&self, process: Pid) -> Result<OwnedFd, Errno> {
        let table = fs::read_to_string(format!("/proc/{}/cgroup", process.as_raw_nonzero()))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::SRCH))?;
        let name = self
            .path
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        let relative = table
            .lines()
            .find_map(|line| line.strip_prefix("0::")?.split_once(name))
            .map(|(_, below)| below.trim_start_matches('/'))
            .ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(
            &self.directory,
            if relative.is_empty() { "." } else { relative },
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH,
        )
    }

    /// Writes the limits.
    pub(crate) fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        let maximum = |value: Option<u64>| value.map_or("max".into(), |value| value.to_string());
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let files = [
            ("memory.max", number(limits.memory_max)),
            ("memory.low", number(limits.memory_low)),
            ("memory.swap.max", number(limits.memory_swap_max)),
            (
                "cpu.max",
                limits
                    .cpu_max
                    .map(|(quota, period)| format!("{} {period}", maximum(quota))),
            ),
            ("cpu.weight", number(limits.cpu_weight)),
            ("pids.max", limits.pids_max.map(maximum)),
        ];
        for (file, value) in files {
            let Some(value) = value else { continue };
            // A kernel without swap has no such file, and no swap to limit.
            if file == "memory.swap.max" && !self.path.join(file).exists() {
                continue;
            }
            self.write(file, &value)?;
        }
        for (file, value) in &limits.unified {
            if file.contains('/') || !file.contains('.') || file.starts_with('.') {
                return Err(CgroupError::Name { file: file.clone() });
            }
            self.write(file, value)?;
        }
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let written = fs::OpenOptions::new()
            .write(true)
            .open(self.path.join(file))
            .and_then(|mut open| io::Write::write_all(&mut open, value.as_bytes()));
        written.map_err(|source| CgroupError::Write {
            file: file.into(),
            value: value.into(),
            source,
        })
    }

    /// Readable (`POLLPRI`) after an event of the memory controller.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// How many processes the OOM killer ended in this cgroup and below.
    pub(crate) fn oom_kills(&mut self) -> u64 {
        let mut text = String::new();
        let Some(events) = &mut self.events else {
            return 0;
        };
        let read = events
            .rewind()
            .and_then(|()| events.read_to_string(&mut text));
        match read {
            Ok(_) => value(&text, "oom_kill").unwrap_or_default(),
            Err(_) => 0,
        }
    }

    /// Memory in bytes, CPU time in microseconds, number of processes.
    pub(crate) fn usage(&self) -> Result<(u64, u64, u64), CgroupError> {
        let read = |file: &str| {
            fs::read_to_string(self.path.join(file)).map_err(|source| CgroupError::Read {
                file: file.into(),
                source,
            })
        };
        let number = |text: String| text.trim().parse().unwrap_or_default();
        Ok((
            read("memory.current").map(number)?,
            value(&read("cpu.stat")?, "usage_usec").unwrap_or_default(),
            read("pids.current").map(number)?,
        ))
    }

    /// Sends `signal` to every process of the cgroup and of those below it.
    pub(crate) fn signal(&self, number: i32) -> Result<(), CgroupError> {
        if number == libc::SIGKILL {
            return self.write("cgroup.kill", "1");
        }
        for pid in self.processes()? {
            // A process that has ended meanwhile needs no signal.
            let _ = signal::send_to_pid(pid, number);
        }
        Ok(())
    }

    /// The processes of the cgroup and of those below it, by the agent's numbers.
    pub(crate) fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let failed = |source| CgroupError::Read {
            file: "cgroup.procs".into(),
            source,
        };
        let mut folders = vec![self.path.clone()];
        let mut pids = Vec::new();
        while let Some(folder) = folders.pop() {
            let processes = match fs::read_to_string(folder.join("cgroup.procs")) {
                // A threaded or a removed cgroup: its processes are listed elsewhere, or gone.
                Err(error) if folder != self.path => {
                    drop(error);
                    continue;
                }
                processes => processes.map_err(failed)?,
            };
            pids.extend(
                processes
                    .lines()
                    .filter_map(|line| line.parse::<i32>().ok()),
            );
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
        Ok(pids)
    }
}

/// The number that follows `key` in a flat keyed file.
fn value(text: &str, key: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.split_once(' '));
    values.find(|(name, _)| *name == key)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kill_is_not_oom_group_kill() {
        let text = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 9\n";
        assert_eq!(value(text, "oom_kill"), Some(2));
        assert_eq!(value(text, "oom_kil"), None);
    }
}
