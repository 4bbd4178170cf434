//! Ports that lead from a shared network into a VM: the annotation `io.krun-gpu.ports`.
//!
//! A server in the guest binds a port that the shared namespace knows nothing of. Which ports lead
//! to it has to be said, as a list: `80,8000-8010,53/udp`. They are bound when the container
//! starts, so that one which a neighbour has is an error then, as it is for a server under crun.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The ports, as passt takes them; empty for none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Ports {
    pub(super) tcp: String,
    pub(super) udp: String,
}

impl Ports {
    /// Reads an annotation's value; `None` when it is no list of ports.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut ports = Self::default();
        for item in text.split(',').filter(|_| !text.is_empty()) {
            let (range, list) = match item.split_once('/') {
                None | Some((_, "tcp")) => (item.trim_end_matches("/tcp"), &mut ports.tcp),
                Some((range, "udp")) => (range, &mut ports.udp),
                Some(_) => return None,
            };
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            let comma = if list.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = match first == last {
                true => write!(list, "{comma}{first}"),
                false => write!(list, "{comma}{first}-{last}"),
            };
        }
        Some(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_told_by_protocol() {
        let ports = Ports::parse("80,8000-8010,53/udp,443/tcp,67-68/udp").unwrap();
        assert_eq!(ports.tcp, "80,8000-8010,443");
        assert_eq!(ports.udp, "53,67-68");
        assert_eq!(Ports::parse(""), Some(Ports::default()));
    }

    #[test]
    fn what_is_no_port_is_none() {
        for text in [
            "0", "65536", "a", "80,", ",", "9-8", "80/sctp", "80/", "-", "1-", "all", "80 ",
            "+1-2-3",
        ] {
            assert_eq!(Ports::parse(text), None, "{text}");
        }
    }
}
