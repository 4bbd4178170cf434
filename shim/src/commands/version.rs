//! `--version`, in crun's form: `podman info` shows all of it.

use std::io::{self, Write};

use crate::cli::Global;
use crate::state;

/// What this build can do, as crun lists it.
const FEATURES: &str = "+SYSTEMD +CAP +SECCOMP +KVM";

/// Prints the version.
pub(crate) fn run(global: &Global) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "krun-gpu version {}", env!("CARGO_PKG_VERSION"))?;
    if let Some(commit) = option_env!("KRUN_GPU_COMMIT") {
        writeln!(output, "commit: {commit}")?;
    }
    if let Ok(root) = state::root(global) {
        writeln!(output, "rundir: {}", root.display())?;
    }
    writeln!(output, "spec: 1.0.0\n{FEATURES}")
}
