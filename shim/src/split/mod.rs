//! The split: one OCI configuration becomes the VMM's sandbox (host) and the workload (guest).
//!
//! This is the table of design.md section 2. Every field of config.json has exactly one row:
//!
//! | field | host | guest | row |
//! | --- | --- | --- | --- |
//! | `process.*` but the next two | - | applied to the workload | [`process`] |
//! | `process.apparmorProfile`, `selinuxLabel` | on the VMM | - | [`sandbox`] |
//! | `root`, `mounts` | real mounts | shown again; a kernel's own file systems | [`mounts`], [`id_map`] |
//! | `hostname`, `domainname`, `linux.sysctl`, `maskedPaths`, `readonlyPaths` | - | applied | here |
//! | `linux.namespaces`, `uidMappings`, `gidMappings` | of the VMM | its own | [`sandbox`] |
//! | `linux.resources` | with the VM's overhead | the same limits | [`limits`] |
//! | `linux.devices` | - | nodes that the guest's kernel knows | [`devices`], [`disks`], [`gpu`] |
//! | `linux.seccomp` | never | compiled | [`seccomp`] |
//! | `linux.rootfsPropagation` | yes | yes | [`sandbox`], here |
//! | `linux.personality` | - | applied | [`process`] |
//! | `linux.intelRdt`, `memoryPolicy`, `mountLabel` | yes | - | [`sandbox`] |
//! | `linux.netDevices`, `timeOffsets` | refused | - | here |
//! | `hooks` | all but startContainer | startContainer | [`sandbox`], here |
//! | `vm`, `annotations` | the VM's size, its GPU | the GPU's driver | [`machine`], [`gpu`], [`annotations`] |
//!
//! The module is pure: what it must know of the host it asks [`facts`].

mod annotations;
mod devices;
mod disks;
mod facts;
mod gpu;
#[cfg(test)]
mod gpu_tests;
mod id_map;
mod limits;
mod machine;
mod mounts;
mod options;
mod overlay;
mod process;
mod sandbox;
mod seccomp;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::{Hook, Propagation, Workload};
use oci_spec::runtime::{Linux, Root, Spec};

pub(crate) use annotations::{KRUN as KRUN_ANNOTATIONS, NAMES as ANNOTATIONS};
pub(crate) use disks::Disk;
pub(crate) use facts::{Facts, HostFacts};
pub(crate) use gpu::Gpu;
pub(crate) use id_map::{IdMapped, id_map_lines};
pub(crate) use limits::{Update, update};
pub(crate) use machine::Machine;
pub(crate) use options::words as mount_words;
pub(crate) use process::{guest_process, personality};
pub(crate) use seccomp::{SeccompError, compile as compile_seccomp};

use self::annotations::Annotations;
use crate::config::Config;
use crate::network::Ports;

/// Why a configuration cannot be run in a VM.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SplitError {
    /// A value that is not there yet, or never.
    #[error("{field} `{value}` is not supported: {reason}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// Why.
        reason: &'static str,
    },
    /// A number out of range.
    #[error("{field}: {value} is out of range")]
    Number {
        /// The field.
        field: String,
        /// Its value.
        value: i64,
    },
    /// A path or string that is not UTF-8.
    #[error("{field} `{}` is not UTF-8", path.display())]
    Utf8 {
        /// The field.
        field: String,
        /// Its value.
        path: PathBuf,
    },
    /// A soft limit above the hard one.
    #[error(
        "process.rlimits[{index}]: {name} has a soft limit of {soft} above its hard limit of {hard}"
    )]
    Rlimit {
        /// The place in the list.
        index: usize,
        /// The limit.
        name: String,
        /// Its soft value.
        soft: u64,
        /// Its hard value.
        hard: u64,
    },
    /// A mount that cannot be.
    #[error("{field}: cannot mount {}: {reason}", destination.display())]
    Mount {
        /// The field.
        field: String,
        /// Where it should be.
        destination: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A mount of something that is not there.
    #[error("{field} `{}`", path.display())]
    MountSource {
        /// The field.
        field: String,
        /// Its value.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A device that the guest cannot have.
    #[error("{field}: device {path}: {reason}")]
    Device {
        /// The field.
        field: String,
        /// The device's path in the container.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// Memory in which nothing runs.
    #[error("{field}: {value} bytes are too few, a container in a VM needs at least {} MiB", least >> 20)]
    MemoryTooSmall {
        /// The field.
        field: &'static str,
        /// Its value in bytes.
        value: u64,
        /// The least value in bytes.
        least: u64,
    },
    /// More than the VM was booted with.
    #[error("{field}: {value} is more than the {booted} that the VM was booted with")]
    BeyondBoot {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What there is.
        booted: u64,
    },
    /// A list of processors that cannot be read.
    #[error("linux.resources.cpu.cpus `{value}` is no list of processors")]
    Cpuset {
        /// Its value.
        value: String,
    },
    /// An annotation that is wrong or not allowed.
    #[error("annotation {name}=`{value}`: {reason}")]
    Annotation {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The seccomp filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// Both halves.
#[derive(Debug)]
pub(crate) struct Split {
    /// The VMM's sandbox, for libcontainer.
    pub(crate) host: Spec,
    /// The workload, for the agent. Its `state` is empty and its process has no streams yet.
    pub(crate) workload: Workload,
    /// The VM's size.
    pub(crate) machine: Machine,
    /// The VM's GPU, when the container asks for one.
    pub(crate) gpu: Option<Gpu>,
    /// The host's block devices that are its disks.
    pub(crate) disks: Vec<Disk>,
    /// The ports that lead to it from a network that it shares.
    pub(crate) ports: Option<Ports>,
    /// What the container should be told of namespaces that it cannot share.
    pub(crate) notices: Vec<String>,
    /// Propagation of host mounts, by destination.
    pub(crate) propagation: Vec<(PathBuf, Propagation, bool)>,
    /// Host mounts whose ids are mapped.
    pub(crate) id_mapped: Vec<IdMapped>,
}

/// Refuses the map `field` by one of its keys, unless it is empty.
fn refuse_entries<T>(
    field: &'static str,
    entries: Option<&HashMap<String, T>>,
    reason: &'static str,
) -> Result<(), SplitError> {
    match entries.and_then(|entries| entries.keys().next()) {
        Some(name) => Err(SplitError::Unsupported {
            field,
            value: name.clone(),
            reason,
        }),
        None => Ok(()),
    }
}

/// Splits `spec`, which passed the checks of `bundle`.
pub(crate) fn split(
    spec: &Spec,
    rootfs: &Path,
    config: &Config,
    facts: &dyn Facts,
) -> Result<Split, SplitError> {
    let annotations = Annotations::new(spec, config)?;
    let mut machine = Machine::new(spec, annotations, config, facts)?;
    let linux = spec.linux().clone().unwrap_or_default();
    refuse_entries(
        "linux.netDevices",
        linux.net_devices().as_ref(),
        "a device of the host's is not moved into a VM; let an engine make the container's \
         interface (macvlan)",
    )?;
    refuse_entries(
        "linux.timeOffsets",
        linux.time_offsets().as_ref(),
        "the guest's clocks count from its own boot",
    )?;
    let label = spec
        .process()
        .as_ref()
        .and_then(|process| process.selinux_label().clone());
    if let Some(value) = label.filter(|label| !label.is_empty() && !facts.has_selinux()) {
        return Err(SplitError::Unsupported {
            field: "process.selinuxLabel",
            value,
            reason: "this host's kernel has no SELinux",
        });
    }
    let resources = linux.resources().as_ref();
    let mut mounts = mounts::split(spec.mounts().as_deref().unwrap_or_default(), &linux, facts)?;
    let mut wanted = Vec::new();
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        wanted.push(devices::Wanted::read(index, device)?);
    }
    wanted.append(&mut mounts.devices);
    let all_allowed =
        devices::allows_all(resources) || devices::has_no_walls(&linux, spec.process().as_ref());
    let memory_limit = limits::memory_limit(resources)?;
    let (nodes, wanted) = wanted
        .into_iter()
        .partition::<Vec<_>, _>(|wanted| gpu::is_node(&wanted.device));
    let (gpu, guest_gpu) = gpu::split(
        annotations,
        config,
        &nodes,
        all_allowed,
        memory_limit,
        facts,
    )?
    .unzip();
    let seccomp = linux.seccomp().as_ref().map(seccomp::compile).transpose()?;
    let process = spec.process().clone().unwrap_or_default();
    let (blocks, wanted) = wanted
        .into_iter()
        .partition::<Vec<_>, _>(|wanted| disks::is_disk(wanted, all_allowed, facts));
    let (disks, guest_disks) = disks::split(blocks, resources)?;
    let devices = devices::guest_devices(wanted, all_allowed, facts)?;
    machine.nested = devices.iter().any(devices::is_kvm);
    let workload = Workload {
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        root_readonly: spec
            .root()
            .as_ref()
            .and_then(Root::readonly)
            .unwrap_or(false),
        root_propagation: root_propagation(&linux)?,
        mounts: mounts.guest,
        devices,
        disks: guest_disks,
        gpu: guest_gpu,
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        sysctl: sorted(&linux),
        limits: limits::guest_limits(resources)?,
        start_container_hooks: start_hooks(spec)?,
        state: String::new(),
        process: guest_process(&process, seccomp, personality(spec)?)?,
        // Told when it is sent: a boot lies in between.
        realtime_ns: 0,
    };
    let needs = limits::Needs::new(memory_limit, machine.memory, gpu.as_ref());
    let host = sandbox::host_spec(spec, rootfs, mounts.host, needs);
    Ok(Split {
        host,
        workload,
        machine,
        gpu,
        disks,
        ports: annotations.ports()?,
        notices: sandbox::unshared(&linux),
        propagation: mounts.propagation,
        id_mapped: mounts.id_mapped,
    })
}

fn root_propagation(linux: &Linux) -> Result<Option<Propagation>, SplitError> {
    Ok(Some(match linux.rootfs_propagation().as_deref() {
        None | Some("") => return Ok(None),
        Some("private" | "rprivate") => Propagation::Private,
        Some("shared" | "rshared") => Propagation::Shared,
        Some("slave" | "rslave") => Propagation::Slave,
        Some("unbindable" | "runbindable") => Propagation::Unbindable,
        Some(other) => {
            return Err(SplitError::Unsupported {
                field: "linux.rootfsPropagation",
                value: other.to_owned(),
                reason: "there is no such propagation",
            });
        }
    }))
}

fn sorted(linux: &Linux) -> Vec<(String, String)> {
    let mut values: Vec<(String, String)> = linux
        .sysctl()
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    values.sort();
    values
}

fn start_hooks(spec: &Spec) -> Result<Vec<Hook>, SplitError> {
    let hooks = spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.start_container().as_ref());
    hooks
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, hook)| {
            Ok(Hook {
                path: utf8(
                    || format!("hooks.startContainer[{index}].path"),
                    hook.path(),
                )?,
                args: hook.args().clone().unwrap_or_default(),
                env: hook.env().clone(),
                timeout: hook
                    .timeout()
                    .and_then(|seconds| u32::try_from(seconds).ok()),
            })
        })
        .collect()
}

fn utf8(field: impl FnOnce() -> String, path: &Path) -> Result<String, SplitError> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(SplitError::Utf8 {
            field: field(),
            path: path.to_owned(),
        }),
    }
}
