//! From the modules' error types to the protocol's [`AgentError`]: one line for the user.
//!
//! Used by every module whose failure reaches the host.

use std::error::Error;
use std::io;

use krun_gpu_protocol::{AgentError, ErrorKind};
use rustix::io::Errno;

/// `error` and its sources in one line, with the errno that is at the bottom.
pub(crate) fn report(kind: ErrorKind, error: &(dyn Error + 'static)) -> AgentError {
    let mut message = String::new();
    let mut errno = 0;
    let mut link = Some(error);
    while let Some(error) = link {
        if !message.is_empty() {
            message.push_str(": ");
        }
        match number(error) {
            Some(number) => {
                errno = number;
                message.push_str(&text(number));
            }
            None => message.push_str(&error.to_string()),
        }
        link = error.source();
    }
    AgentError {
        kind,
        message,
        errno,
    }
}

/// `error` and its sources in one line, for the console.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    report(ErrorKind::Failed, error).message
}

/// The errno that `error` itself stands for.
fn number(error: &(dyn Error + 'static)) -> Option<i32> {
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return Some(errno.raw_os_error());
    }
    error.downcast_ref::<io::Error>()?.raw_os_error()
}

/// strerror(3)'s text, as crun prints it: engines look for it.
fn text(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    match text.rfind(" (os error ") {
        Some(end) => text.chars().take(end).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("chdir to `{0}`")]
    struct Chdir(&'static str, #[source] Errno);

    #[test]
    fn the_line_reads_as_under_crun() {
        let error = report(ErrorKind::Failed, &Chdir("/missing", Errno::NOENT));
        assert_eq!(
            error.message,
            "chdir to `/missing`: No such file or directory"
        );
        assert_eq!(error.errno, 2);
    }
}
