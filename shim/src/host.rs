//! What kind of host this is: facts that the split and `check` ask for.

use std::fs;
use std::path::Path;

/// Whether we lack the rights of the initial user namespace: an ordinary user, or root in a user
/// namespace, as rootless Podman runs us.
pub(crate) fn is_rootless() -> bool {
    !nix::unistd::geteuid().is_root() || in_user_namespace()
}

/// Whether this process is in a user namespace other than the first one.
pub(crate) fn in_user_namespace() -> bool {
    match fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => !is_initial_map(&map),
        // No /proc: nothing says so.
        Err(_) => false,
    }
}

/// The first user namespace maps every id to itself.
fn is_initial_map(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Processors that this process may run on.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Memory of the machine in bytes.
pub(crate) fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The version of the cgroups at /sys/fs/cgroup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cgroups {
    /// One tree with all controllers.
    V2,
    /// A tree for each controller, or some of each (hybrid).
    V1,
    /// None.
    Absent,
}

/// Which cgroups this machine has.
pub(crate) fn cgroups() -> Cgroups {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Cgroups::V2;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if has_v1_controller(&own) {
        Cgroups::V1
    } else {
        Cgroups::Absent
    }
}

/// Whether this /proc/PID/cgroup (cgroups(7)) has a line that is not cgroup v2's.
fn has_v1_controller(text: &str) -> bool {
    text.lines().any(|line| !line.starts_with("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_v2_alone_has_no_controller_of_v1() {
        assert!(!has_v1_controller("0::/init\n"));
        assert!(has_v1_controller("4:memory:/\n0::/init\n"));
    }

    #[test]
    fn only_the_identity_map_is_the_initial_one() {
        assert!(is_initial_map("         0          0 4294967295\n"));
        assert!(!is_initial_map("         0       1000          1\n"));
        assert!(!is_initial_map("0 1000 1\n1 100000 65536\n"));
    }
}
