//! The guest's initramfs: an uncompressed cpio archive, in the kernel's "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst), that holds the agent as `/init`
//! and the folders that it mounts on.

use std::{fs, path::Path};

use super::{BuildError, file};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Writes the archive with the agent at `agent` to `output`.
pub(super) fn write(agent: &Path, output: &Path) -> Result<(), BuildError> {
    let agent = fs::read(agent).map_err(file("read", agent))?;
    fs::write(output, archive(&agent)?).map_err(file("write", output))
}

fn archive(agent: &[u8]) -> Result<Vec<u8>, BuildError> {
    let size =
        u32::try_from(agent.len()).map_err(|_| BuildError::TooLarge { size: agent.len() })?;
    let mut archive = Vec::new();
    for (inode, name) in (1..).zip(["dev", "proc", "run", "sys"]) {
        entry(&mut archive, inode, name, DIRECTORY, 0);
    }
    entry(&mut archive, 5, "init", PROGRAM, size);
    archive.extend_from_slice(agent);
    pad(&mut archive);
    entry(&mut archive, 0, "TRAILER!!!", 0, 0);
    Ok(archive)
}

/// Appends a header and its name: thirteen fields of eight hexadecimal digits, all owned by root
/// and from 1970, so that the same agent gives the same archive.
fn entry(archive: &mut Vec<u8>, inode: u32, name: &str, mode: u32, size: u32) {
    let links = if mode == DIRECTORY { 2 } else { 1 };
    let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_starts_at_a_multiple_of_four() {
        let archive = archive(b"12345").unwrap();
        let headers: Vec<_> = archive
            .windows(6)
            .enumerate()
            .filter(|(_, bytes)| *bytes == b"070701")
            .map(|(offset, _)| offset % 4)
            .collect();
        assert_eq!(headers, [0; 6]);
        assert!(archive.len().is_multiple_of(4));
    }

    #[test]
    fn the_agent_is_an_executable_init_of_its_size() {
        let archive = archive(b"12345").unwrap();
        let name = archive
            .windows(5)
            .position(|bytes| bytes == b"init\0")
            .unwrap();
        let header = &archive[name - 110..name];
        assert_eq!(&header[14..22], b"000081ed");
        assert_eq!(&header[54..62], b"00000005");
        let content = (name + 5).next_multiple_of(4);
        assert_eq!(&archive[content..content + 5], b"12345");
    }
}
