//! The workload's processes as `ps` shows them, from `/proc`.
//!
//! Called by `control` for `Processes`. Names and command lines are the workload's: bytes to
//! pass on, and no more of them than a screen has room for.

use std::collections::HashMap;
use std::fs;

use krun_gpu_protocol::ProcessInfo;

/// Characters of a command line at most.
const COMMAND: usize = 256;

/// Processes at most: their list is one message.
const PROCESSES: usize = 2048;

/// The clock ticks of `/proc/PID/stat` are a hundredth of a second on every Linux.
const TICK_MS: u64 = 10;

/// Reads those of `pids` that are still there. The workload's own pid namespace numbers them.
pub(crate) fn read(pids: &[i32]) -> Vec<ProcessInfo> {
    let found: Vec<(i32, i32, ProcessInfo)> = pids
        .iter()
        .take(PROCESSES)
        .filter_map(|pid| one(*pid).map(|(parent, process)| (*pid, parent, process)))
        .collect();
    let inner: HashMap<i32, i32> = found
        .iter()
        .map(|(pid, _, process)| (*pid, process.pid))
        .collect();
    let mut list: Vec<ProcessInfo> = found
        .into_iter()
        .map(|(_, parent, process)| ProcessInfo {
            // A parent outside is the agent.
            parent: inner.get(&parent).copied().unwrap_or(0),
            ..process
        })
        .collect();
    list.sort_by_key(|process| process.pid);
    list
}

/// One process, and its parent by the agent's number.
fn one(pid: i32) -> Option<(i32, ProcessInfo)> {
    let text = |file| fs::read(format!("/proc/{pid}/{file}")).ok();
    let status = String::from_utf8_lossy(&text("status")?).into_owned();
    let stat = String::from_utf8_lossy(&text("stat")?).into_owned();
    let line = text("cmdline").unwrap_or_default();
    Some((
        field(&status, "PPid:")?.parse().ok()?,
        ProcessInfo {
            pid: field(&status, "NSpid:")?.parse().ok()?,
            parent: 0,
            uid: field(&status, "Uid:")?.parse().ok()?,
            cpu_ms: cpu_ticks(&stat)?.saturating_mul(TICK_MS),
            command: command(&line, field(&status, "Name:").unwrap_or_default()),
        },
    ))
}

/// The last word of a line of `status`, which for `NSpid` is the innermost number; of `Uid` it is
/// the file system's, the effective one.
fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().last()
}

/// utime and stime; the name before them may hold anything, so fields count from the last `)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat
        .get(stat.rfind(')')? + 1..)?
        .split_whitespace()
        .skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn command(line: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.split('\0').filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return format!("[{name}]");
    }
    words.join(" ").chars().take(COMMAND).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let list = read(&[pid, i32::MAX]);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].parent, 0);
        assert!(list[0].command.contains("krun_gpu_agent"), "{list:?}");
    }

    #[test]
    fn names_do_not_confuse_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 12 3 0 0 20 0 1 0 4711 0 0";
        assert_eq!(cpu_ticks(stat), Some(15));
        assert_eq!(command(b"a\0b c\0", "x"), "a b c");
        assert_eq!(command(b"", "kthread"), "[kthread]");
    }
}
