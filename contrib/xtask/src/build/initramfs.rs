//! The guest's initramfs: an uncompressed cpio archive, in the kernel's "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst), that holds the agent as `/init`,
//! the folders that it mounts on and, for a VM with a GPU, the Vulkan driver in `/vulkan`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{BuildError, file};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// Where the agent finds the driver.
const DRIVER: &str = "vulkan";

/// Writes the archive with the agent at `agent` and the files of the driver to `output`.
pub(super) fn write(
    agent: &Path,
    driver: &[(&str, PathBuf)],
    output: &Path,
) -> Result<(), BuildError> {
    let read = |path: &Path| fs::read(path).map_err(file("read", path));
    let agent = read(agent)?;
    let driver = driver
        .iter()
        .map(|(name, path)| Ok((*name, read(path)?)))
        .collect::<Result<Vec<_>, BuildError>>()?;
    fs::write(output, archive(&agent, &driver)?).map_err(file("write", output))
}

fn archive(agent: &[u8], driver: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, BuildError> {
    let mut archive = Archive::default();
    for name in ["dev", "proc", "run", "sys"] {
        archive.add(name, DIRECTORY, &[])?;
    }
    if !driver.is_empty() {
        archive.add(DRIVER, DIRECTORY, &[])?;
    }
    for (name, content) in driver {
        archive.add(&format!("{DRIVER}/{name}"), FILE, content)?;
    }
    archive.add("init", PROGRAM, agent)?;
    Ok(archive.finish())
}

/// An archive that grows.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Appends an entry with its content.
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), BuildError> {
        let size = u32::try_from(content.len()).map_err(|_| BuildError::TooLarge {
            name: name.to_owned(),
            size: content.len(),
        })?;
        self.entries += 1;
        entry(&mut self.bytes, self.entries, name, mode, size);
        self.bytes.extend_from_slice(content);
        pad(&mut self.bytes);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        entry(&mut self.bytes, 0, "TRAILER!!!", 0, 0);
        self.bytes
    }
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
        let archive = archive(b"12345", &[]).unwrap();
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
        let archive = archive(b"12345", &[]).unwrap();
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

    #[test]
    fn the_driver_follows_its_folder() {
        let driver = [("a.so", b"abc".to_vec()), ("b.json", Vec::new())];
        let archive = archive(b"12345", &driver).unwrap();
        let position = |name: &[u8]| {
            let mut windows = archive.windows(name.len());
            windows.position(|window| window == name).unwrap()
        };
        let (folder, first) = (position(b"vulkan\0"), position(b"vulkan/a.so\0"));
        assert!(folder < first && first < position(b"vulkan/b.json\0"));
        assert_eq!(&archive[folder - 110..][14..22], b"000041ed");
        assert_eq!(&archive[first - 110..][14..22], b"000081a4");
        let content = (first + 12).next_multiple_of(4);
        assert_eq!(&archive[content..content + 3], b"abc");
    }
}
