//! The cache outside the checkout (`~/.cache/krun-gpu`, or `KRUN_GPU_CACHE`). An entry is a folder
//! named after what it holds and the hash of what it was made of; it appears under that name
//! only when complete, so an entry that exists is good.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::progress;

/// Why the cache is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// Neither variable says where it is.
    #[error("neither KRUN_GPU_CACHE nor HOME is set")]
    NoHome,
    /// A file or folder of the cache, or an input, could not be used.
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The folder that holds all entries.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Opens the cache, making its folder.
    pub(crate) fn open() -> Result<Self, CacheError> {
        let directory = match env::var_os("KRUN_GPU_CACHE") {
            Some(path) => PathBuf::from(path),
            None => {
                Path::new(&env::var_os("HOME").ok_or(CacheError::NoHome)?).join(".cache/krun-gpu")
            }
        };
        fs::create_dir_all(&directory).map_err(|source| CacheError::File {
            action: "create",
            path: directory.clone(),
            source,
        })?;
        let directory = directory
            .canonicalize()
            .map_err(|source| CacheError::File {
                action: "resolve",
                path: directory.clone(),
                source,
            })?;
        Ok(Self { directory })
    }

    /// The folder itself.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the log of `name` goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.directory.join("log").join(format!("{name}.log"))
    }

    /// Where the entry `name`-`hash` is, or would be.
    pub(crate) fn path(&self, name: &str, hash: &str) -> PathBuf {
        self.directory.join(format!("{name}-{hash}"))
    }

    /// The entry `name`-`hash`; when it is not there, `make` makes it in an empty folder. Others
    /// who want the same entry wait. `title` is the step's name for the progress line.
    pub(crate) fn entry<E: From<CacheError>>(
        &self,
        title: &str,
        name: &str,
        hash: &str,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let entry = self.path(name, hash);
        if entry.exists() {
            progress::step(title, "cached");
            return Ok(entry);
        }
        let _lock = self.lock(title, &format!("{name}-{hash}"))?;
        if entry.exists() {
            progress::step(title, "cached");
            return Ok(entry);
        }
        let unfinished = self.directory.join(format!("{name}-{hash}.unfinished"));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(file("remove", &unfinished))?;
        }
        fs::create_dir(&unfinished).map_err(file("create", &unfinished))?;
        make(&unfinished)?;
        fs::rename(&unfinished, &entry).map_err(file("rename", &unfinished))?;
        progress::step(title, "done");
        Ok(entry)
    }

    /// Holds the lock `name` until the file is dropped.
    fn lock(&self, title: &str, name: &str) -> Result<File, CacheError> {
        let path = self.directory.join(format!("{name}.lock"));
        let lock = File::create(&path).map_err(file("create", &path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress::step(title, "waiting for another xtask that makes it");
            flock(&lock, FlockOperation::LockExclusive)
                .map_err(|error| file("lock", &path)(error.into()))?;
        }
        Ok(lock)
    }
}

/// The hash of an entry's inputs.
#[derive(Default)]
pub(crate) struct Inputs(Sha256);

impl Inputs {
    /// Adds bytes; where one input ends and the next begins counts too.
    pub(crate) fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a file, or all files below a folder, with their names.
    pub(crate) fn path(mut self, path: &Path) -> Result<Self, CacheError> {
        if !path.is_dir() {
            let content = fs::read(path).map_err(file("read", path))?;
            return Ok(self.bytes(content));
        }
        let entries = fs::read_dir(path).map_err(file("read", path))?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(file("read", path))?;
        paths.sort();
        for path in paths {
            let name = path.file_name().map_or(&b""[..], OsStr::as_encoded_bytes);
            self = self.bytes(name).path(&path)?;
        }
        Ok(self)
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn hash(self) -> String {
        let digest = self.0.finalize();
        digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    move |source| CacheError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_names_contents_and_borders_apart() {
        let folder = tempfile::tempdir().unwrap();
        let hash = || Inputs::default().path(folder.path()).unwrap().hash();
        fs::write(folder.path().join("a"), "1").unwrap();
        let first = hash();
        fs::write(folder.path().join("a"), "2").unwrap();
        let second = hash();
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_ne!(first, second);
        assert_ne!(second, hash());
        let joined = Inputs::default().bytes("ab").hash();
        assert_ne!(joined, Inputs::default().bytes("a").bytes("b").hash());
        assert_eq!(joined.len(), 16);
    }

    #[test]
    fn an_entry_is_made_once_and_a_failed_one_never_appears() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache {
            directory: folder.path().to_owned(),
        };
        let failed = cache.entry("test", "thing", "0", |_| Err(CacheError::NoHome));
        assert!(matches!(failed, Err(CacheError::NoHome)));
        assert!(!folder.path().join("thing-0").exists());
        let make = |path: &Path| fs::write(path.join("x"), "1").map_err(file("write", path));
        let made = cache.entry("test", "thing", "0", make).unwrap();
        assert_eq!(fs::read(made.join("x")).unwrap(), b"1");
        let again = cache.entry("test", "thing", "0", |_| Err(CacheError::NoHome));
        assert_eq!(again.unwrap(), made);
    }
}
