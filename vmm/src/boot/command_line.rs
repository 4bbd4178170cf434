//! The kernel's command line: our own part, one word per device, the caller's part.

use crate::layout::Range;

/// What every guest gets. The console is a log; a panic ends the VM at once, and so does a
/// reboot, by the keyboard controller's reset line, which is a port write that we see. Words that
/// the kernel does not know (such as `nomodule`, which one without modules has no use for) would
/// become arguments of the guest's init.
const BASIS: &str = "console=hvc0 reboot=k panic=-1 quiet";

/// Linux's COMMAND_LINE_SIZE on x86, with the final NUL.
const LIMIT: usize = 2048;

/// A command line under construction.
#[derive(Debug)]
pub(crate) struct CommandLine(String);

impl CommandLine {
    pub(crate) fn new() -> Self {
        Self(BASIS.to_owned())
    }

    /// Tells the kernel of a virtio-mmio device.
    pub(crate) fn add_device(&mut self, registers: Range, line: u32) {
        let size = registers.length / 1024;
        self.0.push_str(&format!(
            " virtio_mmio.device={size}K@{:#x}:{line}",
            registers.start
        ));
    }

    /// Appends what the caller wants. It goes last: of two contradicting options the kernel
    /// takes the later one.
    pub(crate) fn append(&mut self, extra: &str) -> Result<(), CommandLineError> {
        if let Some(character) = extra
            .chars()
            .find(|char| !char.is_ascii() || char.is_ascii_control())
        {
            return Err(CommandLineError::Character(character));
        }
        if !extra.is_empty() {
            self.0.push(' ');
            self.0.push_str(extra);
        }
        if self.0.len() >= LIMIT {
            return Err(CommandLineError::Length {
                length: self.0.len(),
                limit: LIMIT - 1,
            });
        }
        Ok(())
    }

    pub(super) fn as_bytes_with_nul(&self) -> Vec<u8> {
        let mut bytes = self.0.clone().into_bytes();
        bytes.push(0);
        bytes
    }

    /// Length without the NUL.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why the caller's part of the command line is refused.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommandLineError {
    /// Something that is no printable ASCII.
    #[error("the kernel's command line contains {0:?}")]
    Character(char),
    /// The kernel would cut it.
    #[error("the kernel's command line is {length} bytes long, and the kernel reads {limit}")]
    Length {
        /// Its length with our own part.
        length: usize,
        /// The most that the kernel reads.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_before_the_callers_words() {
        let mut line = CommandLine::new();
        line.add_device(
            Range {
                start: 0xd000_1000,
                length: 4096,
            },
            6,
        );
        line.append("quiet foo=bar").expect("fits");
        assert!(
            line.as_str()
                .ends_with(" virtio_mmio.device=4K@0xd0001000:6 quiet foo=bar")
        );
        assert_eq!(line.as_bytes_with_nul().last(), Some(&0));
    }

    #[test]
    fn what_the_kernel_would_misread_is_refused() {
        for (extra, character) in [("a\0b", '\0'), ("a\nb", '\n'), ("größe", 'ö')] {
            let error = CommandLine::new().append(extra);
            assert_eq!(error, Err(CommandLineError::Character(character)));
        }
        let room = LIMIT - 1 - BASIS.len() - 1;
        assert_eq!(CommandLine::new().append(&"x".repeat(room)), Ok(()));
        assert_eq!(
            CommandLine::new().append(&"x".repeat(room + 1)),
            Err(CommandLineError::Length {
                length: LIMIT,
                limit: LIMIT - 1
            })
        );
    }
}
