//! What an idle container costs: the VMM's memory beyond guest RAM, and the guest's own.

use std::fs;

use libtest_mimic::Failed;

use crate::harness::command::sh;
use crate::harness::{ensure, images};

/// The VMM marks guest RAM, and what it maps into it, as not for children (MADV_DONTFORK): so
/// `VmFlags:` in smaps(5) tells it. It is in pieces of all sizes, the kernel's segments among them.
const GUEST_RAM: &str = "dc";

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

/// The private bytes of all mappings but guest RAM. An entry's flags are its last line.
fn private_beyond_ram(smaps: &str) -> u64 {
    let (mut total, mut private) = (0, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Private_Clean:" | "Private_Dirty:") => {
                let kibibytes = words.next().and_then(|number| number.parse::<u64>().ok());
                private += kibibytes.unwrap_or(0) << 10;
            }
            Some("VmFlags:") => {
                if !words.any(|flag| flag == GUEST_RAM) {
                    total += private;
                }
                private = 0;
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
        let ram = "a\nSize: 4 kB\nPrivate_Dirty: 4 kB\nVmFlags: rd wr dc nr\n";
        let other = "b\nPrivate_Clean: 4 kB\nPrivate_Dirty: 2 kB\nVmFlags: rd nr\n";
        let smaps = [ram, other, ram].concat();
        assert_eq!(private_beyond_ram(&smaps), 6 << 10);
    }
}
