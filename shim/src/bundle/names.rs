//! Names that a configuration may use: capabilities, resource limits, namespaces.
//!
//! Checked on the JSON itself, so that an unknown name is reported as such. `split/` turns the
//! names into the kernel's numbers.

use serde_json::Value;

use super::InvalidConfig;

/// Linux' capabilities by number, up to the newest that the guest's kernel knows.
pub(crate) const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Linux' resource limits by number (getrlimit(2)).
pub(crate) const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

const NAMESPACES: [&str; 8] = [
    "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time",
];

/// The number of a capability, by its name in any case.
pub(crate) fn capability_number(name: &str) -> Option<u32> {
    let name = name.to_uppercase();
    let number = CAPABILITIES.iter().position(|known| *known == name)?;
    u32::try_from(number).ok()
}

/// Checks every such name in `config`.
pub(super) fn check(config: &Value) -> Result<(), InvalidConfig> {
    let Some(process) = config.get("process") else {
        return check_namespaces(config);
    };
    for set in [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ] {
        for (index, name) in strings(process.pointer(&format!("/capabilities/{set}"))) {
            if capability_number(name).is_none() {
                return Err(InvalidConfig::Capability {
                    set,
                    index,
                    name: name.to_owned(),
                });
            }
        }
    }
    let limits = process.get("rlimits").and_then(Value::as_array);
    for (index, limit) in limits.into_iter().flatten().enumerate() {
        let name = limit
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !RLIMITS.contains(&name) {
            return Err(InvalidConfig::Rlimit {
                index,
                name: name.to_owned(),
            });
        }
    }
    check_namespaces(config)
}

fn check_namespaces(config: &Value) -> Result<(), InvalidConfig> {
    let namespaces = config
        .pointer("/linux/namespaces")
        .and_then(Value::as_array);
    for (index, namespace) in namespaces.into_iter().flatten().enumerate() {
        let name = namespace
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !NAMESPACES.contains(&name) {
            return Err(InvalidConfig::Namespace {
                index,
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

/// The strings of a JSON array with their indices; nothing for anything else.
fn strings(value: Option<&Value>) -> impl Iterator<Item = (usize, &str)> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, value)| Some((index, value.as_str()?)))
}
