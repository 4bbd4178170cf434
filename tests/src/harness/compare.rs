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
    let mut crun = sh_with("crun", script)?;
    let mut ours = sh_with("krun-gpu", script)?;
    for output in [&mut crun, &mut ours] {
        output.stdout = without_ids(&output.stdout);
        output.stderr = without_ids(&output.stderr);
    }
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

/// `text` with every container id, 64 hexadecimal digits, as `ID`: each run has its own.
fn without_ids(text: &str) -> String {
    let is_digit = |character: char| character.is_ascii_hexdigit();
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let word = &rest[start..];
        let length = word
            .find(|character| !is_digit(character))
            .unwrap_or(word.len());
        result.push_str(&rest[..start]);
        result.push_str(if length == 64 { "ID" } else { &word[..length] });
        rest = &word[length..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::without_ids;

    #[test]
    fn only_whole_ids_are_replaced() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(without_ids(&format!("of {id}: no")), "of ID: no");
        assert_eq!(without_ids("status 127, feed"), "status 127, feed");
        assert_eq!(without_ids(&format!("{id}0")), format!("{id}0"));
    }
}
