//! The rows of `mounts`: what the host mounts for real, and what the guest's kernel mounts.
//!
//! A mount of a kernel's own file system (proc, sysfs, tmpfs, ...) belongs to the guest. On the
//! host a small tmpfs stands in its place: it makes the mount point exist in the exported tree,
//! and mount points below it are made in the stand-in, not in the container's image. Everything
//! else is mounted on the host with its real flags, and shown in the guest with the same ones.

use std::io;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::{Mount, MountFlags, MountSource, Propagation};
use oci_spec::runtime::{Linux, Mount as OciMount};

use super::SplitError;
use super::devices::{Wanted, is_standard};
use super::facts::{Facts, Node};
use super::id_map::IdMapped;
use super::options::MountOptions;
use super::overlay;

/// File systems that show a kernel's own state.
const GUEST_KINDS: [&str; 16] = [
    "proc",
    "sysfs",
    "tmpfs",
    "ramfs",
    "devpts",
    "devtmpfs",
    "mqueue",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "binfmt_misc",
    "configfs",
    "hugetlbfs",
];

/// Where the exported tree has what the guest mounts below its proc or over a standard node: the
/// host cannot mount it there, since its own proc is not exported and its own nodes are made after
/// the mounts. The guest's /dev hides it.
const ASIDE: &str = "/dev/.krun-gpu-mounts";

/// Where a GPU's nodes are.
const DRI: &str = "/dev/dri";

/// Both halves of all mounts.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// For libcontainer, in the specification's order.
    pub(super) host: Vec<OciMount>,
    /// For the agent, in the same order.
    pub(super) guest: Vec<Mount>,
    /// Propagation that the host's mounts must get once they are in place.
    pub(super) propagation: Vec<(PathBuf, Propagation, bool)>,
    /// Host mounts whose ids are mapped.
    pub(super) id_mapped: Vec<IdMapped>,
    /// Bind mounts that were devices.
    pub(super) devices: Vec<Wanted>,
    /// Where the guest's proc is.
    procs: Vec<PathBuf>,
    /// What the host mounts in [`ASIDE`], after everything else.
    aside: Vec<OciMount>,
}

/// Splits all mounts.
pub(super) fn split(
    mounts: &[OciMount],
    linux: &Linux,
    facts: &dyn Facts,
) -> Result<Mounts, SplitError> {
    let mut all = Mounts::default();
    let mounts_dev = |mount: &OciMount| mount.destination() == Path::new("/dev");
    if !mounts.iter().any(mounts_dev) {
        // libcontainer makes nodes and links in /dev, which must not be the image's.
        all.host.push(stand_in(Path::new("/dev")));
    }
    for (index, mount) in mounts.iter().enumerate() {
        all.add(index, mount, linux, facts)?;
    }
    if !mounts
        .iter()
        .any(|mount| mount.typ().as_deref() == Some("proc"))
    {
        all.host.push(proc_mount(Path::new("/proc")));
    }
    let aside = std::mem::take(&mut all.aside);
    all.host.extend(aside);
    Ok(all)
}

impl Mounts {
    fn add(
        &mut self,
        index: usize,
        mount: &OciMount,
        linux: &Linux,
        facts: &dyn Facts,
    ) -> Result<(), SplitError> {
        let words = mount.options().clone().unwrap_or_default();
        let options = MountOptions::read(&words);
        let destination = mount.destination();
        let field = |name: &str| format!("mounts[{index}].{name}");
        let source = mount.source().clone().unwrap_or_default();
        let kind = mount.typ().clone().unwrap_or_default();
        if !options.bind && kind != "bind" {
            if GUEST_KINDS.contains(&kind.as_str()) {
                let source = super::utf8(|| field("source"), &source)?;
                return self.add_guest(field("destination"), mount, kind, source, options, facts);
            }
            return self.add_host(index, mount, options);
        }
        let node = facts
            .node(&source)
            .map_err(|error| SplitError::MountSource {
                field: field("source"),
                path: source.clone(),
                source: error,
            })?;
        if let Some(size) = shared_memory(destination, &source, facts) {
            let options = MountOptions {
                data: vec!["mode=1777".to_owned(), format!("size={size}")],
                ..options
            };
            let (kind, source) = ("tmpfs".to_owned(), "shm".to_owned());
            return self.add_guest(field("destination"), mount, kind, source, options, facts);
        }
        if destination == Path::new("/dev") {
            return Err(SplitError::Mount {
                field: field("destination"),
                destination: destination.clone(),
                reason: "the host's device nodes mean nothing to the guest's kernel",
            });
        }
        if destination.starts_with(DRI) && node == Node::Directory {
            // `-v /dev/dri:/dev/dri`; what is below its nodes (by-path) the guest has not.
            let paths = facts.directory(&source);
            for path in paths.map_err(|error| SplitError::MountSource {
                field: field("source"),
                path: source.clone(),
                source: error,
            })? {
                // What was removed meanwhile was not asked for.
                if let Ok(Node::Device(node)) = facts.node(&path) {
                    let name = path.file_name().unwrap_or_default();
                    let place = super::utf8(|| field("source"), &destination.join(name))?;
                    self.devices
                        .push(Wanted::found(format!("mounts[{index}]"), place, node));
                }
            }
            return Ok(());
        }
        match node {
            // The agent makes these in any case.
            Node::Device(_) if is_standard(destination) => Ok(()),
            Node::Device(node) => {
                let path = super::utf8(|| field("destination"), destination)?;
                self.devices
                    .push(Wanted::found(format!("mounts[{index}]"), path, node));
                Ok(())
            }
            Node::Directory | Node::File => {
                let is_directory = node == Node::Directory;
                let found = facts.end_of_links(destination);
                let found = found.and_then(|end| match end {
                    // As crun has it: what is made at a link's end is a file.
                    Some(_) if is_directory => Err(io::Error::from_raw_os_error(libc::ENOENT)),
                    end => Ok(end),
                });
                let end = found.map_err(|error| SplitError::MountSource {
                    field: field("destination"),
                    path: destination.clone(),
                    source: error,
                })?;
                let moved;
                let mount = match end {
                    Some(end) => {
                        let mut mount = mount.clone();
                        mount.set_destination(end);
                        moved = mount;
                        &moved
                    }
                    None => mount,
                };
                let destination = mount.destination();
                let Some(mapped) = IdMapped::read(index, mount, &options, linux, is_directory)?
                else {
                    return self.add_host(index, mount, options);
                };
                self.id_mapped.push(IdMapped {
                    destination: self.exported_at(index, destination),
                    ..mapped
                });
                self.add_host(index, &placeholder(destination, is_directory), options)
            }
        }
    }

    fn add_host(
        &mut self,
        index: usize,
        mount: &OciMount,
        options: MountOptions,
    ) -> Result<(), SplitError> {
        let exported_at = self.exported_at(index, mount.destination());
        if let Some((propagation, recursive)) = options.propagation {
            let place = exported_at.clone();
            // What is exported is a copy of the mounts, and an unbindable one has none.
            let propagation = match propagation {
                Propagation::Unbindable => Propagation::Private,
                other => other,
            };
            self.propagation.push((place, propagation, recursive));
        }
        self.guest.push(Mount {
            destination: super::utf8(
                || format!("mounts[{index}].destination"),
                mount.destination(),
            )?,
            source: MountSource::Host {
                exported_at: super::utf8(|| format!("mounts[{index}].destination"), &exported_at)?,
            },
            flags: options.flags,
            propagation: options.propagation,
        });
        let mut mount = mount.clone();
        if mount.typ().as_deref() == Some("overlay") {
            let options = mount.options().clone().map(overlay::in_pieces);
            mount.set_options(options);
        }
        if exported_at == *mount.destination() {
            self.host.push(mount);
        } else {
            mount.set_destination(exported_at);
            self.aside.push(mount);
        }
        Ok(())
    }

    /// Where the host mounts `mounts[index]`.
    fn exported_at(&self, index: usize, destination: &Path) -> PathBuf {
        let below_proc = self.procs.iter().any(|proc| destination.starts_with(proc));
        if below_proc || is_standard(destination) {
            Path::new(ASIDE).join(index.to_string())
        } else {
            destination.to_owned()
        }
    }

    fn add_guest(
        &mut self,
        field: String,
        mount: &OciMount,
        kind: String,
        source: String,
        mut options: MountOptions,
        facts: &dyn Facts,
    ) -> Result<(), SplitError> {
        let destination = mount.destination();
        let is_tmpfs = kind == "tmpfs" && !destination.starts_with("/dev");
        if kind == "proc" {
            // The VMM's own: never exported, but `podman top` and xattr calls look into it.
            self.host.push(proc_mount(destination));
            self.procs.push(destination.clone());
        } else if !(is_tmpfs && facts.image_has_directory(destination)) {
            self.host.push(stand_in(destination));
            // A tmpfs takes the mode of the directory that it hides; here there is none.
            if is_tmpfs && !options.data.iter().any(|word| word.starts_with("mode=")) {
                options.data.push("mode=1777".to_owned());
            }
        }
        self.guest.push(Mount {
            destination: super::utf8(|| field, destination)?,
            source: MountSource::Guest {
                // The guest has cgroup v2 alone.
                kind: if kind == "cgroup" {
                    "cgroup2".to_owned()
                } else {
                    kind
                },
                source,
                data: options.data.join(","),
                copy_up: options.copy_up,
            },
            flags: options.flags - MountFlags::RECURSIVE,
            propagation: options.propagation,
        });
        Ok(())
    }
}

/// What makes the mount point of a mount that is put there later.
fn placeholder(destination: &Path, is_directory: bool) -> OciMount {
    if is_directory {
        return stand_in(destination);
    }
    let mut mount = OciMount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(PathBuf::from("/dev/null")))
        .set_options(Some(vec!["bind".to_owned()]));
    mount
}

/// Podman makes a tmpfs of the host for /dev/shm and binds it; the guest gets one of its own, of
/// the same size. The host's own /dev/shm is bound when a container is to share it.
fn shared_memory(destination: &Path, source: &Path, facts: &dyn Facts) -> Option<u64> {
    if destination != Path::new("/dev/shm")
        || source == Path::new("/dev/shm")
        || source.file_name()? != "shm"
    {
        return None;
    }
    facts.tmpfs_size(source).ok().flatten()
}

/// A small tmpfs of the host that stands where the guest mounts something.
fn stand_in(destination: &Path) -> OciMount {
    let mut mount = OciMount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some("tmpfs".to_owned()))
        .set_source(Some(PathBuf::from("tmpfs")))
        .set_options(Some(
            ["nosuid", "noexec", "mode=755", "size=64k"]
                .map(str::to_owned)
                .to_vec(),
        ));
    mount
}

fn proc_mount(destination: &Path) -> OciMount {
    let mut mount = OciMount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some("proc".to_owned()))
        .set_source(Some(PathBuf::from("proc")))
        .set_options(Some(
            ["nosuid", "noexec", "nodev"].map(str::to_owned).to_vec(),
        ));
    mount
}
