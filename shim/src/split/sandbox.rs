//! The host's half: a specification of the VMM's sandbox, for libcontainer.
//!
//! It is written from nothing, not cut out of the container's: a field that no row here sets is
//! one that the host does not apply.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{
    Capability, Hooks, Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec, User,
};

use super::limits::{Needs, host_resources};

/// What a VMM may do while it is set up. The file server keeps these but the last two, so that
/// the guest's users own what they make, without it being able to do more than a container's root.
const CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Mknod,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::SysAdmin,
];

/// The thread that owns a GPU has the host's root directory.
const GPU_CAPABILITY: Capability = Capability::SysChroot;

/// Writes the sandbox' specification.
#[allow(
    deprecated,
    reason = "prestart hooks are deprecated, and still what containers bring"
)]
pub(super) fn host_spec(spec: &Spec, rootfs: &Path, mounts: Vec<Mount>, needs: Needs) -> Spec {
    let mut root = Root::default();
    root.set_path(rootfs.to_owned());
    root.set_readonly(spec.root().as_ref().and_then(Root::readonly));
    let hooks = spec.hooks().as_ref().map(|hooks| {
        let mut host = Hooks::default();
        host.set_prestart(hooks.prestart().clone())
            .set_create_runtime(hooks.create_runtime().clone())
            .set_create_container(hooks.create_container().clone());
        host
    });
    let mut host = Spec::default();
    host.set_version(spec.version().clone())
        .set_root(Some(root))
        .set_mounts(Some(mounts))
        .set_process(Some(process(spec, needs)))
        .set_hostname(None)
        .set_domainname(None)
        .set_annotations(spec.annotations().clone())
        .set_hooks(hooks)
        .set_linux(
            spec.linux()
                .as_ref()
                .map(|container| linux(container, needs)),
        );
    host
}

fn process(spec: &Spec, needs: Needs) -> Process {
    let container = spec.process().as_ref();
    let mut process = Process::default();
    process
        .set_terminal(None)
        .set_user(User::default())
        .set_args(Some(vec!["krun-gpu".to_owned()]))
        .set_env(Some(Vec::new()))
        .set_cwd(PathBuf::from("/"))
        .set_capabilities(Some(capabilities(needs)))
        .set_rlimits(open_files())
        .set_no_new_privileges(Some(true))
        .set_apparmor_profile(container.and_then(|process| process.apparmor_profile().clone()))
        .set_selinux_label(container.and_then(|process| process.selinux_label().clone()));
    process
}

/// Our own capabilities of those that a VMM wants: an ordinary user in a container may have fewer.
fn capabilities(needs: Needs) -> LinuxCapabilities {
    let ours = caps::read(None, caps::CapSet::Permitted).unwrap_or_default();
    let wanted: HashSet<Capability> = CAPABILITIES
        .into_iter()
        .chain(needs.gpu.then_some(GPU_CAPABILITY))
        .filter(|capability| {
            let name = format!("CAP_{capability}");
            ours.iter().any(|ours| ours.to_string() == name)
        })
        .collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(wanted.clone()))
        .set_effective(Some(wanted.clone()))
        .set_permitted(Some(wanted))
        .set_inheritable(Some(HashSet::new()))
        .set_ambient(Some(HashSet::new()));
    sets
}

/// As many open files as possible: the file server holds one for every file that the guest knows.
fn open_files() -> Option<Vec<PosixRlimit>> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let limit = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(hard)
        .hard(hard)
        .build()
        .ok()?;
    Some(vec![limit])
}

/// What a container does not share though its specification says so, in words for its user: the
/// processes and the System V IPC of another kernel. Not a word of a pod's ipc namespace, which
/// every container of a pod names.
pub(super) fn unshared(container: &Linux) -> Vec<String> {
    let namespaces = container.namespaces().as_deref().unwrap_or_default();
    let find = |kind| namespaces.iter().find(|namespace| namespace.typ() == kind);
    let is_joined = |namespace: &LinuxNamespace| namespace.path().is_some();
    let mut notices = Vec::new();
    if find(LinuxNamespaceType::Pid).is_none_or(is_joined) {
        notices.push(
            "the container sees its own processes alone: those of the host and of other containers \
             are another kernel's"
                .to_owned(),
        );
    }
    if find(LinuxNamespaceType::Ipc).is_none() {
        notices.push(
            "System V IPC and message queues are the container's own: the host's are another \
             kernel's (files in /dev/shm are shared)"
                .to_owned(),
        );
    }
    notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    notices
}

/// libcontainer knows the names without the `r`, and applies them recursively. What is exported to
/// the guest is a copy of the mounts, which an unbindable one has not: the guest's own is.
fn propagation(container: &Linux) -> Option<String> {
    let name = container.rootfs_propagation().as_deref()?;
    let short = match name {
        "rprivate" | "unbindable" | "runbindable" => "private",
        "rshared" => "shared",
        "rslave" => "slave",
        "" => return None,
        name => name,
    };
    Some(short.to_owned())
}

fn linux(container: &Linux, needs: Needs) -> Linux {
    let mut namespaces = container.namespaces().clone().unwrap_or_default();
    if !namespaces
        .iter()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Mount)
    {
        // A VMM is always pivoted into the container's root: without a mount namespace its
        // mounts would be the host's.
        let mut mount = LinuxNamespace::default();
        mount.set_typ(LinuxNamespaceType::Mount);
        namespaces.push(mount);
    }
    let resources = container
        .resources()
        .as_ref()
        .map(|resources| host_resources(resources, needs));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_uid_mappings(container.uid_mappings().clone())
        .set_gid_mappings(container.gid_mappings().clone())
        .set_cgroups_path(container.cgroups_path().clone())
        .set_resources(resources)
        .set_rootfs_propagation(propagation(container))
        .set_mount_label(container.mount_label().clone())
        .set_intel_rdt(container.intel_rdt().clone())
        .set_memory_policy(container.memory_policy().clone())
        .set_devices(None)
        .set_seccomp(None)
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_sysctl(None);
    linux
}
