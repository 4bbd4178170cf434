//! The test VM: QEMU with no hardware help, in whose guest nested KVM works. Its root is the
//! tree, over virtio-fs, with an overlay in its memory; `tests/vm/` holds what runs inside to set
//! it up. The command's streams come and go over virtio-serial ports.

mod devices;
mod kernel;
mod qemu;
mod serial;
mod session;
mod terminal;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

pub(crate) use devices::FileSystem;
pub(crate) use kernel::Kernel;
pub(crate) use session::{Status, Streams};

use crate::{
    cache::{Cache, CacheError},
    host::HostError,
    process::ProcessError,
    tree::{Namespace, NamespaceError, Tree, TreeError},
};

/// The VM's root, as a path in the namespace.
const ROOT: &str = "/mnt/root";
/// What the VM sees in [`RUN`], as a path in the namespace.
const RUN_FOLDER: &str = "/run/vm";

/// Folders of the tree's root, empty in Debian, in which the VM sees what is not Debian's.
const SETUP: &str = "srv";
const RUN: &str = "media";
const STAGE: &str = "usr/local";

/// Why there was no VM, or it ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmError {
    /// The mounts.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The host's packages.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file for the VM could not be written.
    #[error("write {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A folder to share is not there.
    #[error("share {path}")]
    Share {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A socket, a terminal or a stream of ours failed.
    #[error("{0}")]
    Stream(&'static str, #[source] io::Error),
    /// The VM ended with no word of its command.
    #[error(
        "the test VM ended before its command did (QEMU: {qemu}); its console said last:\n{console}"
    )]
    Died { qemu: String, console: String },
}

/// How the VM's clock runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Clock {
    /// With the host's.
    #[default]
    Host,
    /// With the instructions executed, one nanosecond each: for benchmarks.
    Instructions,
}

/// What to run and on what.
#[derive(Clone, Debug)]
pub(crate) struct VmOptions {
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Folders of the host to show at their own names.
    pub(crate) shares: Vec<PathBuf>,
    /// MiB of memory.
    pub(crate) memory: u32,
    /// Processors.
    pub(crate) cpus: u8,
    /// Its clock.
    pub(crate) clock: Clock,
    /// Its kernel, if it is not the tree's.
    pub(crate) kernel: Option<Kernel>,
}

impl VmOptions {
    /// MiB of memory, unless told otherwise.
    pub(crate) const MEMORY: u32 = 6144;
    /// Processors, unless told otherwise.
    pub(crate) const CPUS: u8 = 2;

    /// `command` on an ordinary VM.
    pub(crate) fn new(command: Vec<OsString>) -> Self {
        Self {
            command,
            shares: Vec::new(),
            memory: Self::MEMORY,
            cpus: Self::CPUS,
            clock: Clock::Host,
            kernel: None,
        }
    }
}

/// A VM that is set up to run.
#[derive(Debug)]
pub(crate) struct Vm<'a> {
    cache: &'a Cache,
    tree: &'a Tree,
    namespace: &'a Namespace,
    options: VmOptions,
    file_systems: Vec<FileSystem>,
}

impl<'a> Vm<'a> {
    /// Lays out what the VM will see: the tree, `tests/vm` of `checkout`, the staged
    /// installation at `stage` (a path in the namespace) and the shares.
    pub(crate) fn new(
        cache: &'a Cache,
        tree: &'a Tree,
        namespace: &'a Namespace,
        checkout: &Path,
        stage: &Path,
        options: VmOptions,
    ) -> Result<Self, VmError> {
        let run = show_root(namespace, checkout, stage)?;
        if let Some(kernel) = &options.kernel {
            namespace.show(&kernel.modules, &Path::new(ROOT).join("usr/lib/modules"))?;
        }
        let mut file_systems = vec![FileSystem::tree(Path::new(ROOT))];
        let mut shares = Vec::new();
        for (index, path) in options.shares.iter().enumerate() {
            let resolved = path.canonicalize().map_err(|source| VmError::Share {
                path: path.clone(),
                source,
            })?;
            let inside = Path::new("/mnt/share").join(index.to_string());
            namespace.show(&resolved, &inside)?;
            let file_system = FileSystem::share(index, &inside);
            shares.extend([file_system.tag.as_bytes(), b"\0"].concat());
            shares.extend([resolved.as_os_str().as_bytes(), b"\0"].concat());
            file_systems.push(file_system);
        }
        write(&run.join("shares"), &shares)?;
        let arguments = options.command.iter().map(|word| word.as_bytes());
        write(&run.join("argv"), &terminated(arguments))?;
        Ok(Self {
            cache,
            tree,
            namespace,
            options,
            file_systems,
        })
    }

    /// Boots it, runs the command, and returns its exit status.
    pub(crate) fn run(self, streams: Streams) -> Result<Status, VmError> {
        let log = self.cache.log(&format!("vm-{}", std::process::id()));
        let status = session::run(&self, streams, &log)?;
        // Kept when the VM died, of which the error told.
        let _ = fs::remove_file(&log);
        Ok(status)
    }

    /// A file in the folder that the VM sees as `/media`.
    fn run_file(&self, name: &str) -> PathBuf {
        self.namespace.outside(Path::new(RUN_FOLDER)).join(name)
    }
}

/// Shows, in the namespace, the root that the VM sees: the tree, `tests/vm` of `checkout`, the
/// staged installation, and a folder of our own for this run, whose path it returns.
pub(crate) fn show_root(
    namespace: &Namespace,
    checkout: &Path,
    stage: &Path,
) -> Result<PathBuf, NamespaceError> {
    let root = Path::new(ROOT);
    namespace.show_bare_tree(root)?;
    namespace.show(&checkout.join("tests/vm"), &root.join(SETUP))?;
    namespace.show(&namespace.outside(stage), &root.join(STAGE))?;
    let run = namespace.directory(Path::new(RUN_FOLDER))?;
    namespace.show(&run, &root.join(RUN))?;
    Ok(run)
}

/// Each of `words` followed by a NUL.
fn terminated<'w>(words: impl Iterator<Item = &'w [u8]>) -> Vec<u8> {
    words
        .flat_map(|word| word.iter().copied().chain([0]))
        .collect()
}

fn write(path: &Path, content: &[u8]) -> Result<(), VmError> {
    fs::File::create(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(|source| VmError::File {
            path: path.to_owned(),
            source,
        })
}
