//! Descriptors that somebody else made and may share, read and written without ever waiting.
//!
//! Called by the vsock muxer (`devices::vsock`), whose one thread serves every connection and so
//! may not block on any of them. The descriptors are standard streams that came from an engine:
//! their open file descriptions are shared with other processes, so O_NONBLOCK, a flag of the
//! description, is never set here. What is done instead depends on the file's type:
//!
//! | file | ready | read and write |
//! | --- | --- | --- |
//! | socket | epoll | recvmsg, sendmsg with MSG_DONTWAIT |
//! | pipe of pipe(2) | epoll | preadv2, pwritev2 with RWF_NOWAIT |
//! | named FIFO, or a kernel without RWF_NOWAIT on pipes | epoll | poll(2) first; writes of at most PIPE_BUF, which a writable pipe takes at once |
//! | terminal and other character device, read | epoll | poll(2) first |
//! | any of these, already O_NONBLOCK | epoll | readv, writev |
//! | regular file, block device, /dev/null and the like | always | readv, writev |
//! | terminal and other character device, written | - | [`StreamError::NeedsThread`]: a writable terminal may take one byte and then wait |
//!
//! A write to a pipe without readers raises SIGPIPE, which Rust's runtime ignores.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};
use vm_memory::VolatileSlice;

/// What a write to a writable pipe takes without waiting, by POSIX and pipe(7).
const PIPE_BUF: usize = 4096;

/// Segments in one call: as many as the kernel takes.
const MAX_SEGMENTS: usize = 1024;

/// The way bytes flow through a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    /// The stream is read.
    Read,
    /// The stream is written.
    Write,
}

/// How a stream is accessed: the table above.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Socket,
    NoWait,
    Polled,
    NonBlocking,
    AlwaysReady,
}

/// Why a descriptor cannot be a stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The descriptor could not be examined.
    #[error("examine descriptor {descriptor} of a stream")]
    Examine {
        /// Its number.
        descriptor: i32,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Its file is nothing that bytes can be streamed through.
    #[error("descriptor {descriptor} is no stream but a file of type {kind:?}")]
    Type {
        /// Its number.
        descriptor: i32,
        /// The file's type.
        kind: FileType,
    },
    /// It can only be written by a thread that may wait.
    #[error("descriptor {} may wait when written", descriptor.as_raw_fd())]
    NeedsThread {
        /// The descriptor, given back.
        descriptor: OwnedFd,
    },
}

/// A descriptor that is read or written without waiting.
#[derive(Debug)]
pub(crate) struct Stream {
    descriptor: OwnedFd,
    access: Access,
}

impl Stream {
    /// Finds out how `descriptor` is to be accessed in `direction`.
    pub(crate) fn new(descriptor: OwnedFd, direction: Direction) -> Result<Self, StreamError> {
        let examine = |source: rustix::io::Errno| StreamError::Examine {
            descriptor: descriptor.as_raw_fd(),
            source: source.into(),
        };
        let status = rustix::fs::fstat(&descriptor).map_err(examine)?;
        let flags = rustix::fs::fcntl_getfl(&descriptor).map_err(examine)?;
        let nonblocking = flags.contains(OFlags::NONBLOCK);
        let access = match FileType::from_raw_mode(status.st_mode) {
            FileType::Socket => Access::Socket,
            FileType::RegularFile | FileType::BlockDevice => Access::AlwaysReady,
            FileType::Fifo if nonblocking => Access::NonBlocking,
            FileType::Fifo => Access::NoWait,
            FileType::CharacterDevice if !is_pollable(descriptor.as_fd()).map_err(examine)? => {
                Access::AlwaysReady
            }
            FileType::CharacterDevice if nonblocking => Access::NonBlocking,
            FileType::CharacterDevice if direction == Direction::Read => Access::Polled,
            FileType::CharacterDevice => return Err(StreamError::NeedsThread { descriptor }),
            kind => {
                return Err(StreamError::Type {
                    descriptor: descriptor.as_raw_fd(),
                    kind,
                });
            }
        };
        Ok(Self { descriptor, access })
    }

    /// Whether epoll takes the descriptor; the others are ready at all times.
    pub(crate) fn is_pollable(&self) -> bool {
        self.access != Access::AlwaysReady
    }

    /// Reads into `buffers`, in order. `Ok(0)` is end of file, `WouldBlock` an empty stream.
    pub(crate) fn read(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut segments = segments(buffers, usize::MAX);
        match self.access {
            Access::Socket => self.socket(&mut segments, Direction::Read),
            Access::NoWait => match self.vectored(&segments, Direction::Read, libc::RWF_NOWAIT) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    self.access = Access::Polled;
                    self.read(buffers)
                }
                result => result,
            },
            Access::Polled => {
                self.poll(PollFlags::IN)?;
                self.vectored(&segments, Direction::Read, 0)
            }
            Access::NonBlocking | Access::AlwaysReady => {
                self.vectored(&segments, Direction::Read, 0)
            }
        }
    }

    /// Writes from `buffers`, in order. `WouldBlock` when the stream takes nothing now.
    pub(crate) fn write(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let limit = match self.access {
            Access::Polled => PIPE_BUF,
            _ => usize::MAX,
        };
        let mut segments = segments(buffers, limit);
        match self.access {
            Access::Socket => self.socket(&mut segments, Direction::Write),
            Access::NoWait => match self.vectored(&segments, Direction::Write, libc::RWF_NOWAIT) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    self.access = Access::Polled;
                    self.write(buffers)
                }
                result => result,
            },
            Access::Polled => {
                self.poll(PollFlags::OUT)?;
                self.vectored(&segments, Direction::Write, 0)
            }
            Access::NonBlocking | Access::AlwaysReady => {
                self.vectored(&segments, Direction::Write, 0)
            }
        }
    }

    /// `WouldBlock` unless the descriptor is ready, hung up or broken.
    fn poll(&self, flags: PollFlags) -> io::Result<()> {
        let now = rustix::event::Timespec::default();
        let mut descriptors = [PollFd::new(&self.descriptor, flags)];
        match rustix::event::poll(&mut descriptors, Some(&now))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }

    fn vectored(
        &self,
        segments: &[libc::iovec],
        direction: Direction,
        flags: i32,
    ) -> io::Result<usize> {
        let descriptor = self.descriptor.as_raw_fd();
        let count = segment_count(segments)?;
        // Offset -1 is the file's own position.
        result(match direction {
            // SAFETY: the segments point into memory that the caller's borrowed slices keep
            // mapped and writable; nothing in this process assumes what it holds.
            Direction::Read => unsafe {
                libc::preadv2(descriptor, segments.as_ptr(), count, -1, flags)
            },
            // SAFETY: as above, and only read.
            Direction::Write => unsafe {
                libc::pwritev2(descriptor, segments.as_ptr(), count, -1, flags)
            },
        })
    }

    fn socket(&self, segments: &mut [libc::iovec], direction: Direction) -> io::Result<usize> {
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: all zeros is a valid msghdr: no address, no segments, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = segments.as_mut_ptr();
        message.msg_iovlen = segments.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        result(match direction {
            // SAFETY: the segments are valid as in `vectored`; `message` has no other pointers.
            Direction::Read => unsafe { libc::recvmsg(descriptor, &raw mut message, flags) },
            // SAFETY: as above.
            Direction::Write => unsafe { libc::sendmsg(descriptor, &raw const message, flags) },
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn result(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

fn segment_count(segments: &[libc::iovec]) -> io::Result<i32> {
    i32::try_from(segments.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The first `limit` bytes of `buffers` as the kernel takes them.
fn segments(buffers: &[VolatileSlice<'_>], limit: usize) -> Vec<libc::iovec> {
    let mut left = limit;
    let mut segments = Vec::with_capacity(buffers.len().min(MAX_SEGMENTS));
    for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
        if left == 0 || segments.len() == MAX_SEGMENTS {
            break;
        }
        let length = buffer.len().min(left);
        left -= length;
        segments.push(libc::iovec {
            iov_base: buffer.ptr_guard_mut().as_ptr().cast(),
            iov_len: length,
        });
    }
    segments
}

/// Whether epoll takes a character device: those without a poll operation never wait.
fn is_pollable(descriptor: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    use rustix::event::epoll;
    let probe = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    match epoll::add(&probe, descriptor, data, epoll::EventFlags::IN) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn write(stream: &mut Stream, bytes: &mut [u8]) -> io::Result<usize> {
        stream.write(&[VolatileSlice::from(bytes)])
    }

    /// Fills a stream until it takes no more, and says how much that was.
    fn fill(stream: &mut Stream) -> usize {
        let mut written = 0;
        loop {
            match write(stream, &mut [7; 10_000]) {
                Ok(length) => written += length,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return written;
                }
            }
        }
    }

    fn is_nonblocking(stream: &Stream) -> bool {
        rustix::fs::fcntl_getfl(stream)
            .unwrap()
            .contains(OFlags::NONBLOCK)
    }

    #[test]
    fn a_full_pipe_does_not_block_and_stays_a_blocking_one() {
        let (reader, writer) = io::pipe().unwrap();
        let mut output = Stream::new(writer.into(), Direction::Write).unwrap();
        let mut input = Stream::new(reader.into(), Direction::Read).unwrap();
        let written = fill(&mut output);
        assert!(written >= 60_000, "{written}");
        assert!(!is_nonblocking(&output));
        let mut bytes = vec![0; written + 1];
        let target = [VolatileSlice::from(bytes.as_mut_slice())];
        assert_eq!(input.read(&target).unwrap(), written);
        assert_eq!(
            input.read(&target).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(output);
        assert_eq!(input.read(&target).unwrap(), 0);
    }

    #[test]
    fn a_named_fifo_falls_back_to_polled_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let both = File::options().read(true).write(true).open(&path).unwrap();
        let mut output = Stream::new(both.into(), Direction::Write).unwrap();
        assert!(fill(&mut output) >= 60_000);
        assert!(!is_nonblocking(&output));
    }

    #[test]
    fn files_and_null_are_always_ready_and_directories_are_refused() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        let mut output = Stream::new(null.into(), Direction::Write).unwrap();
        assert!(!output.is_pollable());
        assert_eq!(write(&mut output, &mut [0; 100]).unwrap(), 100);

        let directory = File::open("/").unwrap();
        assert!(matches!(
            Stream::new(directory.into(), Direction::Read),
            Err(StreamError::Type {
                kind: FileType::Directory,
                ..
            })
        ));
    }

    #[test]
    fn a_blocking_terminal_is_read_here_and_written_by_a_thread() {
        let open = || File::options().read(true).write(true).open("/dev/ptmx");
        let mut input = Stream::new(open().unwrap().into(), Direction::Read).unwrap();
        let mut bytes = [0; 10];
        assert_eq!(
            input
                .read(&[VolatileSlice::from(bytes.as_mut_slice())])
                .unwrap_err()
                .kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(matches!(
            Stream::new(open().unwrap().into(), Direction::Write),
            Err(StreamError::NeedsThread { .. })
        ));
    }
}
