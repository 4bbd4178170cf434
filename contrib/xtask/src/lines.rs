//! Lines out of a stream that comes in pieces: what a test VM prints, for those who count it.

/// The beginning of a line whose end did not come yet.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes more of the stream; the lines that are whole now, each with its newline.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend(bytes);
        let mut whole = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let rest = self.0.split_off(end + 1);
            whole.push(std::mem::replace(&mut self.0, rest));
        }
        whole
    }

    /// What came behind the last newline.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_are_whole_however_their_bytes_come() {
        let mut lines = Lines::default();
        assert!(lines.push(b"on").is_empty());
        assert_eq!(
            lines.push(b"e\n\ntwo\nth"),
            [&b"one\n"[..], b"\n", b"two\n"]
        );
        assert_eq!(lines.take_rest(), b"th");
        assert_eq!(lines.push(b"four\n"), [b"four\n"]);
    }
}
