//! After every case: no process, mount, network device, cgroup, socket or directory is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::fail;

/// How long what is on its way out may take: Podman's own cleanup runs after a container's end.
const GRACE: Duration = Duration::from_secs(60);

/// What there is on the machine that a runtime could leave behind.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at processes, mounts, network devices, cgroups and the runtime's directories.
    pub(crate) fn take() -> Result<Self, Failed> {
        let mut found = BTreeSet::new();
        processes(&mut found)?;
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
            // Podman keeps /run/netns once it has been used.
            if let Some(target) = line
                .split(' ')
                .nth(4)
                .filter(|target| *target != "/run/netns")
            {
                found.insert(format!("mount {target}"));
            }
        }
        names("netdev", Path::new("/sys/class/net"), &mut found);
        // The bridge of Podman's default network stays once a container used it.
        found.remove("netdev podman0");
        names("netns", Path::new("/run/netns"), &mut found);
        names("state", Path::new("/run/krun-gpu"), &mut found);
        names(
            "state of the user",
            Path::new("/run/user/1000/krun-gpu"),
            &mut found,
        );
        cgroups(Path::new("/sys/fs/cgroup"), &mut found);
        Ok(Self(found))
    }

    /// Waits until nothing is there that was not there before.
    pub(crate) fn wait_until_clean(&self) -> Result<(), Failed> {
        let deadline = Instant::now() + GRACE;
        loop {
            let now = Self::take()?;
            let left: Vec<&String> = now.0.difference(&self.0).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return fail(format!("left behind: {left:?}"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn processes(found: &mut BTreeSet<String>) -> Result<(), Failed> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name();
        let Some(pid) = pid
            .to_str()
            .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        // A process that ended meanwhile is not left behind; a kernel thread has no command line.
        let Ok(command) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let ours = ["krun-gpu", "virgl_render", "conmon", "catatonit"]
            .iter()
            .any(|word| command.contains(word) || name.contains(word));
        if ours
            && !command.contains("krun-gpu-tests")
            && !command.contains("podman pause")
            && !command.contains("catatonit -P")
        {
            found.insert(format!("process {pid} {} {command}", name.trim()));
        }
    }
    Ok(())
}

fn names(what: &str, directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        found.insert(format!("{what} {}", entry.file_name().to_string_lossy()));
    }
}

fn cgroups(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let name = path.to_string_lossy().into_owned();
            // Podman keeps its parent cgroup; only what is in it belongs to a container.
            if !name.ends_with("/libpod_parent") && !name.ends_with("/libpod_parent/conmon") {
                found.insert(format!("cgroup {name}"));
            }
            cgroups(&path, found);
        }
    }
}
