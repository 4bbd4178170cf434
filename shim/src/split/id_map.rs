//! The row of `mounts[].uidMappings`, `gidMappings` and of the options `idmap` and `ridmap`: a
//! mount whose files have other owners than on their file system.
//!
//! In a user namespace all bind mounts are made like them, without a mapping: its root may not go
//! where the engine keeps what it mounts.
//!
//! crun's form of the option, `idmap=uids=0-1000-10#10-2000-1;gids=...`, is read as well: first
//! id on the file system, first id on the mount (of the container after an `@`), how many.

use std::path::PathBuf;

use krun_gpu_protocol::MountFlags;
use oci_spec::runtime::{Linux, LinuxIdMapping, Mount};

use super::SplitError;
use super::options::MountOptions;

/// A bind mount that `create` makes, with its ids mapped or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct IdMapped {
    /// Where it is in the container.
    pub(crate) destination: PathBuf,
    /// What is mounted.
    pub(crate) source: PathBuf,
    /// With what is mounted below it.
    pub(crate) recursive: bool,
    /// The ids of what is mounted below it are mapped, too.
    pub(crate) map_all: bool,
    /// Its flags.
    pub(crate) flags: MountFlags,
    /// It is a directory.
    pub(crate) is_directory: bool,
    /// Users, as lines of a uid_map; empty for none: on the file system, on the mount, how many.
    pub(crate) uids: Vec<[u32; 3]>,
    /// Groups likewise.
    pub(crate) gids: Vec<[u32; 3]>,
}

impl IdMapped {
    /// Reads `mounts[index]`, if it is one; its source is a directory or a file.
    pub(super) fn read(
        index: usize,
        mount: &Mount,
        options: &MountOptions,
        linux: &Linux,
        is_directory: bool,
    ) -> Result<Option<Self>, SplitError> {
        let own = (mount.uid_mappings(), mount.gid_mappings());
        let made = |uids, gids| Self {
            destination: mount.destination().clone(),
            source: mount.source().clone().unwrap_or_default(),
            recursive: options.recursive_bind,
            map_all: options.id_map_all,
            flags: options.flags,
            is_directory,
            uids,
            gids,
        };
        if options.id_map.is_none() && own.0.is_none() && own.1.is_none() {
            let is_in_namespace = linux.uid_mappings().iter().flatten().next().is_some();
            return Ok(is_in_namespace.then(|| made(Vec::new(), Vec::new())));
        }
        let failed = |reason| SplitError::Mount {
            field: format!("mounts[{index}].options"),
            destination: mount.destination().clone(),
            reason,
        };
        let container = (lines(linux.uid_mappings()), lines(linux.gid_mappings()));
        let text = options.id_map.as_deref().unwrap_or_default();
        let (uids, gids) = if !text.is_empty() {
            let parse = |name, container: &[[u32; 3]]| {
                let list = text.split(';').find_map(|part| part.strip_prefix(name));
                list.and_then(|list| triples(list, container))
                    .ok_or_else(|| failed("`idmap=` wants `uids=ID-ID-COUNT;gids=ID-ID-COUNT`"))
            };
            (parse("uids=", &container.0)?, parse("gids=", &container.1)?)
        } else if let (Some(uids), Some(gids)) = own {
            (id_map_lines(uids), id_map_lines(gids))
        } else if own.0.is_some() || own.1.is_some() {
            return Err(failed("uidMappings and gidMappings come together"));
        } else {
            container
        };
        if uids.is_empty() || gids.is_empty() {
            return Err(failed(
                "an id-mapped mount wants mappings, its own or those of a user namespace",
            ));
        }
        Ok(Some(made(uids, gids)))
    }
}

fn lines(mappings: &Option<Vec<LinuxIdMapping>>) -> Vec<[u32; 3]> {
    mappings.as_deref().map(id_map_lines).unwrap_or_default()
}

/// Mappings as lines of a uid_map or gid_map.
pub(crate) fn id_map_lines(mappings: &[LinuxIdMapping]) -> Vec<[u32; 3]> {
    mappings
        .iter()
        .map(|mapping| [mapping.container_id(), mapping.host_id(), mapping.size()])
        .collect()
}

/// Reads `ID-ID-COUNT#@ID-ID-COUNT`.
fn triples(list: &str, container: &[[u32; 3]]) -> Option<Vec<[u32; 3]>> {
    list.split('#')
        .map(|text| {
            let (text, is_relative) = match text.strip_prefix('@') {
                Some(text) => (text, true),
                None => (text, false),
            };
            let numbers: Vec<u32> = text
                .split('-')
                .map(|number| number.parse().ok())
                .collect::<Option<_>>()?;
            let [first, mut mapped, count] = <[u32; 3]>::try_from(numbers).ok()?;
            if is_relative {
                mapped = container.iter().find_map(|[inside, outside, size]| {
                    let offset = mapped.checked_sub(*inside)?;
                    (offset < *size).then(|| outside.checked_add(offset))?
                })?;
            }
            Some([first, mapped, count])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cruns_form_is_read() {
        let container = [[0, 100_000, 65_536]];
        assert_eq!(
            triples("0-1-10#10-11-10", &container),
            Some(vec![[0, 1, 10], [10, 11, 10]])
        );
        assert_eq!(
            triples("@1000-5-1", &container),
            Some(vec![[1000, 100_005, 1]])
        );
        for bad in ["", "1-2", "1-2-3-4", "a-b-c", "@0-70000-1"] {
            assert_eq!(triples(bad, &container), None, "{bad:?}");
        }
    }
}
