//! The file system device: a directory of this process, as the guest's root or a share
//! (virtio 1.2, section 5.11; the FUSE protocol, version 7.33).
//!
//! The builder makes it from an [`FsConfig`] and plugs it into a transport. Requests come on one
//! high-priority queue (the guest forgetting inodes) and on request queues; each has a thread.
//! `request` parses them with fuse-backend-rs's server, `tree` does what they ask for.
//!
//! The guest can do to the directory what this process can. So this process is to see nothing
//! else: it is pivoted into the container's root, where the host's kernel keeps mounts read-only
//! that are meant to be. Whatever a request holds, it reaches files only through descriptors of
//! the tree; see `tree` for the rules. What a guest can use up is this process's: descriptors, of
//! which it gets EMFILE beyond the limit, and its workers' time.

mod config;
mod request;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::FileSystem;
use fuse_backend_rs::api::server::Server;
use rustix::io::Errno;
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

pub use self::config::{FsConfig, Graft};
use self::tree::Tree;
use super::queue_worker::{Job, Serve, Worker};
use crate::virtio::{ActivateError, Activation, VirtioDevice, copy_config};

/// The size of the high-priority queue, which carries small messages.
const PRIORITY_QUEUE_SIZE: u16 = 128;

/// The size of a request queue: room for several requests of 1 MiB, a descriptor for each page.
const REQUEST_QUEUE_SIZE: u16 = 1024;

/// A virtio-fs device.
pub struct Fs {
    tree: Arc<Tree>,
    space: [u8; 40],
    queue_sizes: Vec<u16>,
    workers: Vec<Worker>,
}

impl Fs {
    /// Opens the directory and starts the workers, which sleep until the guest uses the device.
    ///
    /// This process's `/proc` must be mounted at `/proc` now, and is not needed later. The
    /// threads take their capabilities from the calling one: CAP_SETUID, CAP_SETGID and
    /// CAP_SETPCAP to make files for the guest's users, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_CHOWN,
    /// CAP_FSETID, CAP_SETFCAP and CAP_MKNOD for what a container's root may do to its files.
    pub fn new(config: &FsConfig) -> Result<Self, FsError> {
        let space = config.space()?;
        let tree = Arc::new(Tree::new(config)?);
        let server = Arc::new(Server::new(tree.clone()));
        let workers = (0..=config.workers)
            .map(|queue| {
                let (server, tree) = (server.clone(), tree.clone());
                Worker::start(format!("fs{queue}"), move || {
                    tree.enter()?;
                    drop(tree);
                    Ok(Requests(server))
                })
            })
            .collect::<Result<_, _>>()
            .map_err(FsError::Worker)?;
        let mut queue_sizes = vec![REQUEST_QUEUE_SIZE; config.workers];
        queue_sizes.insert(0, PRIORITY_QUEUE_SIZE);
        Ok(Self {
            tree,
            space,
            queue_sizes,
            workers,
        })
    }
}

/// What a worker's requests go to.
struct Requests(Arc<Server<Arc<Tree>>>);

impl Serve for Requests {
    fn serve(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &DescriptorChain<&GuestMemoryMmap>,
    ) -> u32 {
        request::serve(&self.0, memory, chain)
    }
}

impl VirtioDevice for Fs {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_FS
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        copy_config(&self.space, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation {
            memory,
            queues,
            interrupt,
            features,
        } = activation;
        // Without these two the guest's driver could ask for nothing. It leaves request queues
        // unused when it has fewer processors.
        for queue in 0..2 {
            if !matches!(queues.get(queue), Some(Some(_))) {
                return Err(ActivateError::QueueMissing {
                    device: "fs",
                    queue,
                });
            }
        }
        for (worker, queue) in self.workers.iter_mut().zip(queues) {
            let Some(queue) = queue else { continue };
            let job = Job {
                queue,
                memory: memory.clone(),
                interrupt: interrupt.clone(),
                event_idx: features & 1 << VIRTIO_RING_F_EVENT_IDX != 0,
            };
            worker.assign(job).map_err(|source| ActivateError::Host {
                device: "fs",
                action: "giving a queue to its worker",
                source,
            })?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.iter_mut().for_each(Worker::stop);
        self.tree.destroy();
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Fs")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// Why a file system device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The tag does not fit its field.
    #[error("virtio-fs tag {0:?} is not 1 to 36 bytes without NUL")]
    Tag(String),
    /// No worker, or more than any guest could use.
    #[error("virtio-fs with {0} workers: there can be 1 to 64")]
    Workers(usize),
    /// The directory to export could not be opened.
    #[error("opening {} to export it to the guest", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A directory that the guest should see elsewhere could not be found.
    #[error("grafting {grafts:?} onto {}", directory.display())]
    Graft {
        /// The exported directory.
        directory: PathBuf,
        /// All of its grafts.
        grafts: Vec<Graft>,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// There is no `/proc` to reach descriptors through.
    #[error("opening /proc/self/fd for virtio-fs")]
    Proc(#[source] io::Error),
    /// Something else is mounted at `/proc`.
    #[error("/proc is not a proc file system, which virtio-fs needs to start")]
    NotProc,
    /// A thread could not be started or prepared.
    #[error("starting a worker of virtio-fs")]
    Worker(#[source] io::Error),
}

impl FsError {
    fn proc(source: Errno) -> Self {
        Self::Proc(source.into())
    }
}
