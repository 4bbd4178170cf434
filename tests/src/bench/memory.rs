//! What an idle container costs: the VMM's memory beyond guest RAM, and the guest's own.

use std::fs;

use libtest_mimic::Failed;

use crate::harness::command::sh;
use crate::harness::{ensure, images};

/// A mapping at least this large is guest RAM (or the mapped kernel within it).
const GUEST_RAM: u64 = 32 << 20;

/// Prints the VMM's private memory and the guest's used memory.
pub(super) fn run() -> Result<(), Failed> {
    images::busybox()?;
    let started = sh(
        "create_detached --name idle $BB sh -c 'cat /proc/meminfo; exec sleep 1000' >/dev/null
        until podman logs idle | grep -q MemAvailable; do sleep 0.2; done; sleep 2
        podman inspect idle --format '{{.State.Pid}}'; podman logs idle",
    )?;
    let measured = measure(&started.stdout);
    let removed = sh("podman rm -f -t 0 idle")?;
    ensure(removed.status == 0, || removed.to_string())?;
    let (private, used) = measured?;
    println!(
        "VMM private memory beyond guest RAM, idle: {:.1} MiB",
        mebibytes(private)
    );
    println!(
        "guest memory in use before the workload: {:.1} MiB",
        mebibytes(used)
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure to print")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Reads the VMM's pid and the guest's meminfo from `text`; returns both figures in bytes.
fn measure(text: &str) -> Result<(u64, u64), Failed> {
    let pid = text.lines().next().unwrap_or_default();
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let field = |name: &str| -> u64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    let used = field("MemTotal:").saturating_sub(field("MemAvailable:")) << 10;
    ensure(used > 0, || format!("no meminfo in {text:?}"))?;
    Ok((private_beyond_ram(&smaps), used))
}

fn private_beyond_ram(smaps: &str) -> u64 {
    let (mut total, mut is_ram) = (0, false);
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["Private_Clean:" | "Private_Dirty:", kibibytes, _] if !is_ram => {
                total += kibibytes.parse::<u64>().unwrap_or(0) << 10;
            }
            ["Size:", kibibytes, _] => {
                is_ram = kibibytes.parse::<u64>().unwrap_or(0) << 10 >= GUEST_RAM;
            }
            _ => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::private_beyond_ram;

    #[test]
    fn guest_memory_is_left_out() {
        let smaps = "a\nSize: 262144 kB\nPrivate_Dirty: 5000 kB\nb\nSize: 8 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: 2 kB\n";
        assert_eq!(private_beyond_ram(smaps), 6 << 10);
    }
}
