//! Annotations: which ones count, and what their values mean.

use std::collections::HashMap;

use oci_spec::runtime::Spec;

use super::SplitError;
use crate::config::Config;
use crate::network::Ports;

/// Prefix of our own annotations.
const PREFIX: &str = "io.krun-gpu.";

/// The ports of a container that shares a network.
const PORTS: &str = "io.krun-gpu.ports";

/// Our own annotations.
pub(crate) const NAMES: [&str; 8] = [
    "io.krun-gpu.cpus",
    "io.krun-gpu.memory",
    "io.krun-gpu.gpu",
    "io.krun-gpu.driver",
    "io.krun-gpu.gpu-window",
    "io.krun-gpu.gpu-memory",
    "io.krun-gpu.virgl",
    PORTS,
];

/// Those of krun's that are accepted too.
pub(crate) const KRUN: [&str; 2] = ["krun.cpus", "krun.ram_mib"];

/// The annotations of one container that the host's configuration allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Annotations<'a> {
    map: Option<&'a HashMap<String, String>>,
    allowed: &'a [String],
}

impl<'a> Annotations<'a> {
    /// Those of `spec`. Ours must be known and allowed; others' are no business of ours.
    pub(super) fn new(spec: &'a Spec, config: &'a Config) -> Result<Self, SplitError> {
        let annotations = Self {
            map: spec.annotations().as_ref(),
            allowed: &config.allowed_annotations,
        };
        let ours = annotations.map.into_iter().flatten();
        for (name, value) in ours.filter(|(name, _)| name.starts_with(PREFIX)) {
            if !annotations.allowed.contains(name) {
                return Err(bad(
                    name,
                    value,
                    if NAMES.contains(&name.as_str()) {
                        "the host's configuration does not allow it"
                    } else {
                        "there is no such annotation"
                    },
                ));
            }
        }
        Ok(annotations)
    }

    /// The value of `name`, if it is there and allowed.
    fn get(&self, name: &str) -> Option<(&'a str, &'a str)> {
        let (name, value) = self.map?.get_key_value(name)?;
        self.allowed.contains(name).then_some((name, value))
    }

    /// The number in the first of `names` that is there.
    pub(super) fn number(&self, names: &[&str]) -> Result<Option<u64>, SplitError> {
        let Some((name, value)) = names.iter().find_map(|name| self.get(name)) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(bad(
                name,
                value,
                "its value must be a whole number greater than zero",
            )),
        }
    }

    /// The ports that lead into the VM.
    pub(super) fn ports(&self) -> Result<Option<Ports>, SplitError> {
        let Some((name, value)) = self.get(PORTS) else {
            return Ok(None);
        };
        match Ports::parse(value) {
            Some(ports) => Ok(Some(ports)),
            None => Err(bad(
                name,
                value,
                "its value must be a list of ports, such as 80,8000-8010,53/udp",
            )),
        }
    }

    /// What the value of `name` stands for among `words`; `reason` tells which there are.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
        reason: &'static str,
    ) -> Result<Option<T>, SplitError> {
        let Some((name, value)) = self.get(name) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => Err(bad(name, value, reason)),
        }
    }
}

/// The error for `name` with `value`.
pub(super) fn bad(name: &str, value: &str, reason: &'static str) -> SplitError {
    SplitError::Annotation {
        name: name.to_owned(),
        value: value.to_owned(),
        reason,
    }
}
