//! `linux.sysctl`, written through the agent's own /proc by the workload's first process, so
//! that the values reach its ipc and uts namespaces.
//!
//! Called by `workload::build` before the root changes. Those of network interfaces wait: `control`
//! sets them at `Start`, when the interfaces are there.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// What can go wrong with a kernel parameter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SysctlError {
    /// Its name is none.
    #[error("sysctl `{name}` is not the name of a kernel parameter")]
    Name {
        /// The name in the specification.
        name: String,
    },
    /// The kernel does not take it.
    #[error("write `{value}` to sysctl `{name}`")]
    Write {
        /// The name in the specification.
        name: String,
        /// The value.
        value: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Directories whose parameters are an interface's, or reach all of them.
const INTERFACES: [&str; 4] = [
    "/proc/sys/net/ipv4/conf/",
    "/proc/sys/net/ipv4/neigh/",
    "/proc/sys/net/ipv6/conf/",
    "/proc/sys/net/ipv6/neigh/",
];

/// Takes those of network interfaces out of `parameters`.
pub(crate) fn take_interfaces(parameters: &mut Vec<(String, String)>) -> Vec<(String, String)> {
    let is_interfaces = |(name, _): &mut (String, String)| {
        file(name).is_some_and(|path| INTERFACES.iter().any(|below| path.starts_with(below)))
    };
    parameters.extract_if(.., is_interfaces).collect()
}

/// Sets every parameter, in order.
pub(crate) fn apply(parameters: &[(String, String)]) -> Result<(), SysctlError> {
    for (name, value) in parameters {
        let path = file(name).ok_or_else(|| SysctlError::Name { name: name.clone() })?;
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .map_err(|source| SysctlError::Write {
                name: name.clone(),
                value: value.clone(),
                source,
            })?;
    }
    Ok(())
}

/// The file of a parameter. As sysctl(8) has it, the first separator decides: in
/// `net/ipv4/conf/eth0.1/mtu` the dot belongs to a name.
fn file(name: &str) -> Option<PathBuf> {
    let separator = name.find(['.', '/'])?;
    let relative: String = if name.get(separator..)?.starts_with('/') {
        name.into()
    } else {
        name.chars()
            .map(|character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    };
    let relative = Path::new(&relative);
    let plain = |component| matches!(component, Component::Normal(_));
    (relative.components().all(plain)).then(|| Path::new("/proc/sys").join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides() {
        let path = |name| file(name).map(|path| path.display().to_string());
        assert_eq!(
            path("net.ipv4.ip_forward").unwrap(),
            "/proc/sys/net/ipv4/ip_forward"
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.mtu").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.1/mtu"
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/mtu").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.1/mtu"
        );
    }

    #[test]
    fn parameters_of_interfaces_wait() {
        let pair = |name: &str| (name.to_owned(), "1".to_owned());
        let mut parameters = vec![
            pair("net.ipv4.ip_forward"),
            pair("net.ipv4.conf.eth0/1.rp_filter"),
            pair("kernel.shmmax"),
            pair("net/ipv6/conf/all/disable_ipv6"),
        ];
        let late = take_interfaces(&mut parameters);
        assert_eq!(
            parameters,
            [pair("net.ipv4.ip_forward"), pair("kernel.shmmax")]
        );
        assert_eq!(late.len(), 2);
    }

    #[test]
    fn a_name_never_leaves_proc_sys() {
        assert_eq!(file("kernel/../../self/oom_score_adj"), None);
        assert_eq!(file("..hostname"), None);
        assert_eq!(file("hostname"), None);
    }
}
