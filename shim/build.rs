//! Keeps the runtime's demands on the host's glibc at those of 2.34.
//!
//! Rust's standard library refers weakly to two functions of glibc 2.39 and does without them
//! where they are missing. A linker that sees a newer glibc gives the references its version,
//! though, and then an older dynamic loader refuses the whole program. `--wrap` lets them refer to
//! names that nobody has: they stay null, and the standard library does what it does on older hosts
//! (it forks where somebody wants a child's pidfd; nobody here does).
//!
//! The other ways were linking against an older Debian's glibc, or with Zig as the guest's driver
//! is: either fetches a second C library and a second libseccomp, to reach hosts that have reached
//! their end. `cargo xtask` fails when the runtime wants more than is promised here.

/// What the standard library refers to weakly and that is newer than glibc 2.34.
const NEWER: [&str; 2] = ["pidfd_getpid", "pidfd_spawnp"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in NEWER {
        println!("cargo::rustc-link-arg-bins=-Wl,--wrap={name}");
    }
}
