//! crun is the reference: the same script under both runtimes.

use libtest_mimic::Failed;

use super::command::{Output, sh_with};
use super::ensure;

/// The two outputs of one script.
#[derive(Debug)]
pub(crate) struct Both {
    /// Under crun.
    pub(crate) crun: Output,
    /// Under krun-gpu, with its name in messages replaced by crun's.
    pub(crate) ours: Output,
}

/// Runs `script` under crun and under krun-gpu.
pub(crate) fn both(script: &str) -> Result<Both, Failed> {
    let crun = sh_with("crun", script)?;
    let mut ours = sh_with("krun-gpu", script)?;
    ours.stderr = ours.stderr.replace("krun-gpu", "crun");
    Ok(Both { crun, ours })
}

/// Runs `script` under both and insists on the same status, output and messages. Returns ours.
pub(crate) fn same(script: &str) -> Result<Output, Failed> {
    let Both { crun, ours } = both(script)?;
    ensure(crun == ours, || {
        format!("{script}\n--- crun: {crun}\n--- krun-gpu: {ours}")
    })?;
    Ok(ours)
}
