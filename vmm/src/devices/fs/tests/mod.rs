//! The device as a guest's driver uses it: queues in memory, FUSE messages in the queues, and a
//! temporary directory of the host behind it all.

mod driver;
mod files;
mod grafts;
mod hostile;
mod mounts;
mod permissions;

use std::ffi::CStr;
use std::path::Path;

use fuse_backend_rs::abi::fuse_abi::{
    CreateIn, EntryOut, GetxattrIn, InitIn, InitOut, Opcode, OpenIn, OpenOut, ReadIn, ReleaseIn,
    SetxattrIn, WriteIn,
};
use fuse_backend_rs::api::filesystem::{FsOptions, ROOT_ID};
use vm_memory::ByteValued;

use self::driver::{Chain, Driver};
use super::{Fs, FsConfig};

/// An answer, or the error number in its place.
type Answer<T> = Result<T, i32>;

/// The user and group that root's processes have.
const ROOT: (u32, u32) = (0, 0);

/// A guest's FUSE client.
struct Guest {
    driver: Driver,
    /// Who sends the next requests.
    by: (u32, u32),
    unique: u64,
}

impl Guest {
    /// A guest that has mounted `directory`.
    fn new(directory: &Path) -> Self {
        Self::with(&FsConfig::new("test", directory, 2))
    }

    /// A guest that has mounted what `config` says.
    fn with(config: &FsConfig) -> Self {
        let queues = u16::try_from(config.workers + 1).unwrap();
        let mut guest = Self {
            driver: Driver::new(Fs::new(config).unwrap(), queues),
            by: ROOT,
            unique: 0,
        };
        guest.mount();
        guest
    }

    fn mount(&mut self) -> FsOptions {
        let flags = u32::try_from(FsOptions::all().bits() & 0x3fff_ffff).unwrap();
        let init = InitIn {
            major: 7,
            minor: 40,
            max_readahead: 1 << 20,
            flags,
        };
        let out: InitOut = self.ask(Opcode::Init, 0, &[init.as_slice()]).unwrap();
        assert_eq!((out.major, out.max_write, out.max_pages), (7, 1 << 20, 256));
        FsOptions::from_bits_truncate(out.flags.into())
    }

    /// Sends a request and returns the body of the answer, of at most `room` bytes.
    fn call(&mut self, op: Opcode, node: u64, body: &[&[u8]], room: u32) -> Answer<Vec<u8>> {
        let body = body.concat();
        self.unique += 1;
        let length = u32::try_from(40 + body.len()).unwrap();
        let message = [
            &header(op as u32, length, self.unique, node, self.by)[..],
            &body,
        ]
        .concat();
        let answer = self.driver.exchange(&Chain::plain(&message, 16 + room));
        assert!(answer.len() >= 16, "{op:?} was not answered");
        let field = |at: usize| u32::from_le_bytes(answer[at..at + 4].try_into().unwrap());
        assert_eq!(answer.len(), usize::try_from(field(0)).unwrap(), "{op:?}");
        assert_eq!(answer[8..16], self.unique.to_le_bytes());
        match field(4).cast_signed() {
            0 => Ok(answer[16..].to_vec()),
            error => Err(-error),
        }
    }

    /// Sends a request whose answer is a `T`.
    fn ask<T: ByteValued>(&mut self, op: Opcode, node: u64, body: &[&[u8]]) -> Answer<T> {
        let room = u32::try_from(size_of::<T>()).unwrap();
        let answer = self.call(op, node, body, room)?;
        Ok(*T::from_slice(&answer).unwrap())
    }

    /// Sends a request whose answer is nothing but success.
    fn tell(&mut self, op: Opcode, node: u64, body: &[&[u8]]) -> Answer<()> {
        self.call(op, node, body, 0)
            .map(|answer| assert!(answer.is_empty()))
    }

    fn lookup(&mut self, parent: u64, name: &CStr) -> Answer<EntryOut> {
        self.ask(Opcode::Lookup, parent, &[name.to_bytes_with_nul()])
    }

    /// The node of a path beneath the root.
    fn walk(&mut self, path: &[&CStr]) -> u64 {
        path.iter().fold(ROOT_ID, |node, name| {
            self.lookup(node, name).unwrap().nodeid
        })
    }

    fn create(&mut self, parent: u64, name: &CStr, mode: u32, umask: u32) -> Answer<(u64, u64)> {
        let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL).cast_unsigned();
        let body = CreateIn {
            flags,
            mode,
            umask,
            fuse_flags: 0,
        };
        let parts = [body.as_slice(), name.to_bytes_with_nul()];
        let answer = self.call(Opcode::Create, parent, &parts, 144)?;
        let entry = *EntryOut::from_slice(&answer[..128]).unwrap();
        let open = *OpenOut::from_slice(&answer[128..]).unwrap();
        Ok((entry.nodeid, open.fh))
    }

    fn open(&mut self, node: u64, flags: i32) -> Answer<OpenOut> {
        let body = OpenIn {
            flags: flags.cast_unsigned(),
            fuse_flags: 0,
        };
        self.ask(Opcode::Open, node, &[body.as_slice()])
    }

    fn release(&mut self, op: Opcode, node: u64, fh: u64) -> Answer<()> {
        self.tell(
            op,
            node,
            &[ReleaseIn {
                fh,
                ..Default::default()
            }
            .as_slice()],
        )
    }

    fn read(&mut self, node: u64, fh: u64, offset: u64, size: u32) -> Answer<Vec<u8>> {
        let body = ReadIn {
            fh,
            offset,
            size,
            ..Default::default()
        };
        self.call(Opcode::Read, node, &[body.as_slice()], size)
    }

    /// Writes with `fuse_flags` of WRITE_* and the `flags` of the open file.
    fn write(
        &mut self,
        (node, fh): (u64, u64),
        offset: u64,
        data: &[u8],
        (fuse_flags, flags): (u32, i32),
    ) -> Answer<u32> {
        let size = u32::try_from(data.len()).unwrap();
        let flags = flags.cast_unsigned();
        let body = WriteIn {
            fh,
            offset,
            size,
            fuse_flags,
            flags,
            ..Default::default()
        };
        let answer = self.call(Opcode::Write, node, &[body.as_slice(), data], 8)?;
        Ok(u32::from_le_bytes(answer[..4].try_into().unwrap()))
    }

    fn set_attribute(&mut self, node: u64, name: &CStr, value: &[u8]) -> Answer<()> {
        let body = SetxattrIn {
            size: u32::try_from(value.len()).unwrap(),
            flags: 0,
        };
        let parts = [body.as_slice(), name.to_bytes_with_nul(), value];
        self.tell(Opcode::Setxattr, node, &parts)
    }

    fn attribute(&mut self, node: u64, name: &CStr, size: u32) -> Answer<Vec<u8>> {
        let body = GetxattrIn { size, padding: 0 };
        let parts = [body.as_slice(), name.to_bytes_with_nul()];
        self.call(Opcode::Getxattr, node, &parts, size.max(8))
    }
}

/// A FUSE request header.
fn header(op: u32, length: u32, unique: u64, node: u64, by: (u32, u32)) -> [u8; 40] {
    let mut header = [0; 40];
    header[0..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&op.to_le_bytes());
    header[8..16].copy_from_slice(&unique.to_le_bytes());
    header[16..24].copy_from_slice(&node.to_le_bytes());
    header[24..28].copy_from_slice(&by.0.to_le_bytes());
    header[28..32].copy_from_slice(&by.1.to_le_bytes());
    header
}

/// Whether these tests run as root; says so if a test is left out for it.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("left out, because it needs root: {test}");
    }
    root
}
