//! The runtime is built in the tree, whose glibc is newer than that of most hosts: Debian bookworm
//! has 2.36, Ubuntu 22.04 2.35, RHEL 9 2.34. It has to start on all of them, so what it wants of
//! glibc is looked at after every build. `shim/build.rs` says how it is kept down.

use std::{fs, path::Path};

use super::{BuildError, Builder, file};
use crate::process;

/// The oldest glibc that the runtime starts on.
const OLDEST: &str = "2.34";

/// Fails when `runtime` wants a newer glibc.
pub(super) fn check(builder: &Builder<'_>, runtime: &Path) -> Result<(), BuildError> {
    let log = builder.cache.log("runtime-symbols");
    let mut list = builder
        .namespace
        .command("objdump")
        // The versions that it refers to, and the symbols, for the message.
        .args(["--private-headers", "--dynamic-syms"])
        .arg(runtime)
        .finish();
    process::run_logged(&mut list, &log)?;
    let listing = fs::read_to_string(&log).map_err(file("read", &log))?;
    let newer = newer_than(OLDEST, &listing);
    if newer.is_empty() {
        return Ok(());
    }
    Err(BuildError::NewerLibc {
        oldest: OLDEST,
        newer,
    })
}

/// What objdump's `listing` has of versions of glibc newer than `oldest`, or not known here:
/// `pidfd_getpid of GLIBC_2.39`, or the version alone.
fn newer_than(oldest: &str, listing: &str) -> Vec<String> {
    let oldest = numbers(oldest);
    let mut found = Vec::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let version = words
            .iter()
            .map(|word| word.trim_matches(['(', ')']))
            .find_map(|word| Some((word, word.strip_prefix("GLIBC_")?)));
        let Some((version, number)) = version else {
            continue;
        };
        let known = numbers(number);
        if known.is_some() && known <= oldest {
            continue;
        }
        match words.last() {
            Some(symbol) if *symbol != version => found.push(format!("{symbol} of {version}")),
            _ => found.push(version.to_owned()),
        }
    }
    found
}

/// `2.2.5` as its numbers; none for a version without numbers, such as `ABI_DT_RELR`.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::newer_than;

    /// What objdump printed of a runtime that did not start on bookworm, shortened.
    const LISTING: &str = "
Version References:
  required from libc.so.6:
    0x069691b4 0x00 05 GLIBC_2.34
    0x09691975 0x00 14 GLIBC_2.2.5
    0x069691b9 0x00 16 GLIBC_2.39

DYNAMIC SYMBOL TABLE:
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.34) dlopen
0000000000000000  w   DF *UND*\t0000000000000000 (GLIBC_2.39) pidfd_getpid
0000000000000000      DF *UND*\t0000000000000000  seccomp_init
";

    #[test]
    fn what_is_newer_is_named() {
        assert_eq!(
            newer_than("2.34", LISTING),
            ["GLIBC_2.39", "pidfd_getpid of GLIBC_2.39"]
        );
        assert!(newer_than("2.39", LISTING).is_empty());
        assert_eq!(newer_than("2.4", LISTING).len(), 4);
    }

    #[test]
    fn an_unknown_version_counts_as_newer() {
        let line = "0x0fd0e42 0x00 03 GLIBC_ABI_DT_RELR";
        assert_eq!(newer_than("2.34", line), ["GLIBC_ABI_DT_RELR"]);
    }
}
