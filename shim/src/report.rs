//! How a failure is told: once on standard error and, when `--log` names a file, as the one
//! record in it.
//!
//! Podman reads the whole JSON log as one object and derives exit statuses 126 and 127 from its
//! text, so nothing else is ever written there.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;

use serde::Serialize;

use crate::cli::{Global, LogFormat};
use crate::time;

/// The record in a JSON log, with crun's keys in crun's order.
#[derive(Serialize)]
struct Record<'a> {
    msg: &'a str,
    level: &'a str,
    time: String,
}

/// Tells `error` with all its causes.
pub(crate) fn failure(global: &Global, error: &dyn Error) {
    let message = chain(error);
    let _ = writeln!(std::io::stderr(), "krun-gpu: {message}");
    let Some(path) = &global.log else { return };
    let path = path.strip_prefix("file:").unwrap_or(path);
    let line = match global.log_format {
        LogFormat::Json => serde_json::to_string(&Record {
            msg: &message,
            level: "error",
            time: time::now(),
        })
        .unwrap_or_default(),
        LogFormat::Text => format!("time={:?} level=error msg={message:?}", time::now()),
    };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{line}"));
    if let Err(error) = written {
        let _ = writeln!(std::io::stderr(), "krun-gpu: write the log {path}: {error}");
    }
}

/// The messages of an error and its causes, joined by colons. A cause that the text before it
/// ends with already is not said again.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = match error.downcast_ref::<std::io::Error>() {
            Some(error) => io_words(error),
            None => error.to_string(),
        };
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// An operating system error as C's strerror has it, without Rust's `(os error N)`.
pub(crate) fn io_words(error: &std::io::Error) -> String {
    let words = error.to_string();
    match words.rfind(" (os error ") {
        Some(end) => words[..end].to_owned(),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open /dev/x")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_ends_with_the_systems_words() {
        let error = Outer(std::io::Error::from_raw_os_error(2));
        assert_eq!(chain(&error), "open /dev/x: No such file or directory");
    }
}
