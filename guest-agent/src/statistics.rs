//! What the guest uses.
//!
//! Called by `control` for `Statistics`.

use std::fs;
use std::io;

use krun_gpu_protocol::{Reply, Statistics};

use crate::workload::cgroup::{Cgroup, CgroupError};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatisticsError {
    /// The guest's memory.
    #[error("read /proc/meminfo of the guest")]
    Memory(#[source] io::Error),
    /// The workload's cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Reads them; without a workload its numbers are 0.
pub(crate) fn read(cgroup: Option<&Cgroup>) -> Result<Reply, StatisticsError> {
    let text = fs::read_to_string("/proc/meminfo").map_err(StatisticsError::Memory)?;
    let total = bytes(&text, "MemTotal:");
    let (memory, cpu_us, pids) = match cgroup {
        Some(cgroup) => cgroup.usage()?,
        None => (0, 0, 0),
    };
    Ok(Reply::Statistics(Statistics {
        memory_used: total.saturating_sub(bytes(&text, "MemAvailable:")),
        memory_total: total,
        workload_memory: memory,
        workload_cpu_us: cpu_us,
        workload_pids: pids,
    }))
}

/// A line of meminfo, in bytes.
fn bytes(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_counts_in_kib() {
        let text = "MemTotal:         250000 kB\nMemFree: 1 kB\nMemAvailable:   100000 kB\n";
        assert_eq!(bytes(text, "MemTotal:"), 250_000 << 10);
        assert_eq!(bytes(text, "MemAvailable:"), 100_000 << 10);
        assert_eq!(bytes(text, "Nothing:"), 0);
    }
}
