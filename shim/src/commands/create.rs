//! `create`: validates a bundle, splits it, builds the sandbox and boots the VM in it.
//!
//! The VMM is the process whose pid goes into the pid file. It keeps this process' standard
//! streams; this process ends when the guest is ready for `start`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use krun_gpu_protocol::Stdio;
use krun_gpu_vmm::devices::block::DiskConfig;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::bundle::{Bundle, BundleError};
use crate::cli::Global;
use crate::config::{self, Config, ConfigError};
use crate::control::{self, ControlError};
use crate::disks::{self, DiskError};
use crate::gpu::{self, GpuError};
use crate::install::{self, InstallError, Parts};
use crate::monitor::Reports;
use crate::network::{self, NetworkError};
use crate::report;
use crate::sandbox::{self, SandboxError, cgroup};
use crate::split::{self, HostFacts, SplitError};
use crate::state::{
    self, CgroupRecord, Container, ContainerId, IdError, MachineRecord, OCI_VERSION,
    ProcessIdentity, Record, StateError, Status,
};
use crate::terminal::{Terminal, TerminalError};
use crate::time;
use crate::trace;

/// How long processes of a failed `create` may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `create`, and of `run`.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// The bundle's directory.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// The configuration file, from the bundle.
    #[arg(long, short = 'f', value_name = "FILE", default_value = "config.json")]
    pub(crate) config: PathBuf,
    /// File that the VMM's pid is written to.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Change the root without pivot_root.
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Accepted for other runtimes' callers: a VM has keyrings of its own.
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Descriptors to pass into the container; only 0 is possible.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Socket that a terminal is sent to.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// The new container's id.
    pub(crate) id: Option<String>,
}

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The host's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the configuration asks for.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// What the machine has.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A block device.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The GPU.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The sandbox and the VM in it.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    /// Something that a VM cannot have.
    #[error("{option} is not supported: {reason}")]
    Unsupported {
        /// The option.
        option: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// A terminal, and nothing of the kind here.
    #[error("use --console-socket: the container has a terminal, and standard input is none")]
    NotATerminal,
    /// A terminal, and nobody to have it.
    #[error("use --console-socket: the container has a terminal, and nobody here stays to show it")]
    NoConsoleSocket,
    /// A file.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A new container.
#[derive(Debug)]
pub(crate) struct Created {
    /// The container.
    pub(crate) container: Container,
    /// The caller's terminal, if it is the workload's.
    pub(crate) terminal: Option<Terminal>,
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), CreateError> {
    create(global, options, false).map(drop)
}

/// Creates a container. In the `foreground` (`run`) its terminal may be the caller's.
pub(crate) fn create(
    global: &Global,
    options: &Options,
    foreground: bool,
) -> Result<Created, CreateError> {
    trace::mark("begin");
    let id = ContainerId::new(options.id.as_deref().unwrap_or_default())?;
    refuse(options)?;
    let bundle = Bundle::load(&options.bundle, &options.config)?;
    let config = Config::load(Path::new(config::PATH))?;
    let facts = HostFacts {
        rootfs: bundle.rootfs.clone(),
    };
    let split = split::split(&bundle.spec, &bundle.rootfs, &config, &facts)?;
    if let Stdio::Terminal { .. } = split.workload.process.stdio
        && options.console_socket.is_none()
    {
        if !foreground {
            return Err(CreateError::NoConsoleSocket);
        }
        if !io::IsTerminal::is_terminal(&io::stdin()) {
            return Err(CreateError::NotATerminal);
        }
    }
    let network = network_namespace(&bundle);
    let is_host = network_namespaces(&bundle).next().is_none();
    network::check_passt(network.as_deref(), is_host, split.ports.as_ref())?;
    let disks = disks::open(&split.disks)?;
    let gpu = split.gpu.as_ref();
    let gpu = gpu
        .map(|gpu| gpu::Preparation::begin(gpu, &config.gpu))
        .transpose()?;
    let (kernel, initramfs) = install::paths(&config, gpu.is_some());
    let parts = Parts::open(
        split.machine.kernel.as_deref().unwrap_or(&kernel),
        split.machine.initramfs.as_deref().unwrap_or(&initramfs),
    )?;
    let cgroup = cgroup::choose(global, &bundle.spec, &id)?;
    let root = state::root(global)?;
    let directory = state::create_directory(&root, &id)?;
    let prepared = Prepared {
        split,
        parts,
        disks,
        gpu,
    };
    let made = finish(options, &id, &bundle, cgroup, prepared, &directory);
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = state::remove_directory(&directory);
    }
    made
}

/// What this version cannot do yet, or a VM never.
fn refuse(options: &Options) -> Result<(), CreateError> {
    let unsupported = |option, reason| Err(CreateError::Unsupported { option, reason });
    if options.preserve_fds > 0 {
        return unsupported(
            "--preserve-fds",
            "a descriptor of the host's cannot be passed into the container's VM",
        );
    }
    Ok(())
}

/// What is known before there is anything of the container's on the machine.
struct Prepared {
    split: split::Split,
    parts: Parts,
    disks: Vec<DiskConfig>,
    gpu: Option<gpu::Preparation>,
}

fn finish(
    options: &Options,
    id: &ContainerId,
    bundle: &Bundle,
    cgroup: Option<CgroupRecord>,
    mut prepared: Prepared,
    directory: &Path,
) -> Result<Created, CreateError> {
    let snapshot = directory.join("config.json");
    fs::write(&snapshot, &bundle.text).map_err(failed("write", &snapshot))?;
    let mut container = Container {
        directory: directory.to_owned(),
        record: record(id, bundle, cgroup, &prepared.split),
    };
    container.save()?;
    let reports = Reports::open(directory, &bundle.path).map_err(failed("open", directory))?;
    prepared.split.workload.state = container.record.oci_state(Status::Created, None);
    match boot(options, &mut container, prepared, reports) {
        Ok(terminal) => Ok(Created {
            container,
            terminal,
        }),
        Err(error) => {
            undo(&container.record);
            Err(error)
        }
    }
}

/// Boots the VM of `container`; the caller's terminal, if that is the container's.
fn boot(
    options: &Options,
    container: &mut Container,
    prepared: Prepared,
    reports: Reports,
) -> Result<Option<Terminal>, CreateError> {
    let Prepared {
        split,
        parts,
        disks,
        gpu,
    } = prepared;
    let mut host_gpu = None;
    if let Some(gpu) = gpu {
        let record = &container.record;
        let (host, record) = gpu.start(record.cgroup.as_ref(), &record.id)?;
        host_gpu = Some(host);
        container.record.gpu = Some(record);
    }
    // Early: an engine looks at its socket and at our end in no order.
    let (terminal, callers) = match (&split.workload.process.stdio, &options.console_socket) {
        (Stdio::Pipes { .. }, _) => (None, None),
        (Stdio::Terminal { size, .. }, Some(socket)) => {
            (Some(Terminal::send_to(socket, *size)?), None)
        }
        (Stdio::Terminal { .. }, None) => {
            (Some(Terminal::of_caller()?), Some(Terminal::of_caller()?))
        }
    };
    let request = sandbox::Request {
        directory: &container.directory,
        record: &container.record,
        parts,
        disks,
        gpu: host_gpu,
        terminal,
        control: control::listen(&container.directory)?,
        reports,
        no_pivot: options.no_pivot,
    };
    let pid = sandbox::build(request, split)?;
    let process =
        ProcessIdentity::of(pid).map_err(failed("look at the VMM in", Path::new("/proc")))?;
    container.record.process = Some(process);
    container.record.status = Status::Created;
    container.save()?;
    if let Some(path) = &options.pid_file {
        fs::write(path, pid.to_string()).map_err(failed("write", path))?;
    }
    Ok(callers)
}

/// Takes away what there is of a container that nobody will hear of.
fn undo(record: &Record) {
    if let Some(process) = record.process {
        let _ = process.end(PATIENCE);
    }
    if let Some(gpu) = &record.gpu {
        // It ends with the VMM, and keeps the cgroup busy until then.
        let _ = gpu.render_server.wait(PATIENCE);
    }
    if let Some(cgroup) = &record.cgroup
        && let Err(error) = cgroup::remove(cgroup, &record.id)
    {
        tracing::warn!("{}", report::chain(&error));
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::File {
        action,
        path,
        source,
    }
}

fn record(
    id: &ContainerId,
    bundle: &Bundle,
    cgroup: Option<CgroupRecord>,
    split: &split::Split,
) -> Record {
    let hooks = bundle.spec.hooks().as_ref();
    Record {
        oci_version: OCI_VERSION.to_owned(),
        id: id.clone(),
        status: Status::Creating,
        process: None,
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: time::now(),
        machine: MachineRecord {
            vcpus: split.machine.vcpus,
            memory: split.machine.memory,
        },
        owner: nix::unistd::getuid().as_raw(),
        annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        cgroup,
        gpu: None,
        network: network_namespace(bundle),
        placeholder: is_placeholder(bundle),
        joined: None,
        ports: split.ports.clone(),
        passt: None,
        notices: split.notices.clone(),
        watcher: None,
        poststart: hooks
            .and_then(|hooks| hooks.poststart().clone())
            .unwrap_or_default(),
        poststop: hooks
            .and_then(|hooks| hooks.poststop().clone())
            .unwrap_or_default(),
    }
}

/// The network namespace that config.json names.
fn network_namespace(bundle: &Bundle) -> Option<PathBuf> {
    network_namespaces(bundle)
        .find_map(|namespace| namespace.path().clone())
        .filter(|path| !path.as_os_str().is_empty())
}

/// What config.json says of it; nothing where the network is the host's.
fn network_namespaces(bundle: &Bundle) -> impl Iterator<Item = &LinuxNamespace> {
    let linux = bundle.spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        .filter(|namespace| namespace.typ() == LinuxNamespaceType::Network)
}

/// Whether this is the container that Podman puts into a pod first: catatonit, told to pause.
fn is_placeholder(bundle: &Bundle) -> bool {
    let process = bundle.spec.process().as_ref();
    let arguments = process.and_then(|process| process.args().as_deref());
    matches!(arguments, Some([program, pause]) if program.ends_with("/catatonit") && pause == "-P")
}
