//! How a VM ends by itself.
//!
//! vCPU threads report; the owner of the VM waits on [`crate::MicroVm::exited`].

use std::fmt;
use std::sync::OnceLock;

use vmm_sys_util::eventfd::EventFd;

/// Why the VM ended without being stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExitReason {
    /// The guest rebooted or powered off.
    Reset,
    /// The guest's kernel panicked, and said this.
    Panic(String),
    /// The guest's CPU shut down on a fault that it could not handle.
    TripleFault,
    /// The hypervisor could not go on, for this reason.
    Failed(String),
}

impl fmt::Display for ExitReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => formatter.write_str("the guest reset itself"),
            Self::Panic(message) => write!(formatter, "the guest's kernel panicked: {message}"),
            Self::TripleFault => formatter.write_str("the guest's CPU shut down (triple fault)"),
            Self::Failed(reason) => formatter.write_str(reason),
        }
    }
}

/// The first reason reported counts; the eventfd stays readable from then on.
#[derive(Debug)]
pub(crate) struct ExitLatch {
    reason: OnceLock<ExitReason>,
    event: EventFd,
}

impl ExitLatch {
    pub(crate) fn new(event: EventFd) -> Self {
        Self {
            reason: OnceLock::new(),
            event,
        }
    }

    pub(crate) fn report(&self, reason: ExitReason) {
        if self.reason.set(reason).is_ok() {
            // A counter that was never written has room for one.
            let _ = self.event.write(1);
        }
    }

    pub(crate) fn reason(&self) -> Option<&ExitReason> {
        self.reason.get()
    }

    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }
}

/// What a panicking Linux said on its console, if the console's last lines have it.
pub(crate) fn panic_message(console: &[u8]) -> Option<String> {
    const MARK: &str = "Kernel panic - not syncing: ";
    let text = String::from_utf8_lossy(console);
    let (_, message) = text.rsplit_once(MARK)?;
    Some(
        message
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end()
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_panic_is_found() {
        let console =
            b"[0.1] ok\r\n[0.2] Kernel panic - not syncing: sysrq triggered crash\r\nCPU: 0";
        assert_eq!(
            panic_message(console).as_deref(),
            Some("sysrq triggered crash")
        );
        assert_eq!(
            panic_message(b"[0.1] ok\r\n[0.2] reboot: Restarting system"),
            None
        );
    }

    #[test]
    fn the_first_reason_counts() {
        let latch = ExitLatch::new(EventFd::new(libc::EFD_NONBLOCK).expect("eventfd"));
        assert_eq!(latch.reason(), None);
        latch.report(ExitReason::TripleFault);
        latch.report(ExitReason::Reset);
        assert_eq!(latch.reason(), Some(&ExitReason::TripleFault));
        assert_eq!(latch.event().read().expect("written"), 1);
    }
}
