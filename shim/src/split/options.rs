//! Mount options: the words of `mounts[].options` and what they mean.
//!
//! runtime-spec, config.md "Linux mount options". The same words are left to libcontainer for
//! mounts that the host makes; here they become what the agent applies in the guest.

use krun_gpu_protocol::{MountFlags, Propagation};

/// What one word does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    /// Sets flags.
    Set(MountFlags),
    /// Clears flags.
    Clear(MountFlags),
    /// Sets flags on what is mounted below as well.
    SetAll(MountFlags),
    /// Clears flags on what is mounted below as well.
    ClearAll(MountFlags),
    /// Sets the propagation, of what is mounted below as well if `true`.
    Propagate(Propagation, bool),
    /// A bind mount, with what is mounted below it if `true`.
    Bind(bool),
    /// Fill a tmpfs with what it hides.
    CopyUp,
    /// An id-mapped mount, with what is mounted below it if `true`.
    IdMap(bool),
    /// Nothing that the guest could show.
    Nothing,
}

/// All the words that are no file system's own.
const WORDS: [(&str, Effect); 68] = [
    ("defaults", Effect::Nothing),
    ("ro", Effect::Set(MountFlags::READ_ONLY)),
    ("rw", Effect::Clear(MountFlags::READ_ONLY)),
    ("suid", Effect::Clear(MountFlags::NO_SUID)),
    ("nosuid", Effect::Set(MountFlags::NO_SUID)),
    ("dev", Effect::Clear(MountFlags::NO_DEV)),
    ("nodev", Effect::Set(MountFlags::NO_DEV)),
    ("exec", Effect::Clear(MountFlags::NO_EXEC)),
    ("noexec", Effect::Set(MountFlags::NO_EXEC)),
    ("sync", Effect::Set(MountFlags::SYNCHRONOUS)),
    ("async", Effect::Clear(MountFlags::SYNCHRONOUS)),
    ("dirsync", Effect::Set(MountFlags::DIR_SYNC)),
    ("symfollow", Effect::Clear(MountFlags::NO_SYMLINK_FOLLOW)),
    ("nosymfollow", Effect::Set(MountFlags::NO_SYMLINK_FOLLOW)),
    ("atime", Effect::Clear(MountFlags::NO_ATIME)),
    ("noatime", Effect::Set(MountFlags::NO_ATIME)),
    ("diratime", Effect::Clear(MountFlags::NO_DIR_ATIME)),
    ("nodiratime", Effect::Set(MountFlags::NO_DIR_ATIME)),
    ("relatime", Effect::Set(MountFlags::RELATIME)),
    ("norelatime", Effect::Clear(MountFlags::RELATIME)),
    ("strictatime", Effect::Set(MountFlags::STRICT_ATIME)),
    ("nostrictatime", Effect::Clear(MountFlags::STRICT_ATIME)),
    ("lazytime", Effect::Set(MountFlags::LAZYTIME)),
    ("nolazytime", Effect::Clear(MountFlags::LAZYTIME)),
    ("rro", Effect::SetAll(MountFlags::READ_ONLY)),
    ("rrw", Effect::ClearAll(MountFlags::READ_ONLY)),
    ("rsuid", Effect::ClearAll(MountFlags::NO_SUID)),
    ("rnosuid", Effect::SetAll(MountFlags::NO_SUID)),
    ("rdev", Effect::ClearAll(MountFlags::NO_DEV)),
    ("rnodev", Effect::SetAll(MountFlags::NO_DEV)),
    ("rexec", Effect::ClearAll(MountFlags::NO_EXEC)),
    ("rnoexec", Effect::SetAll(MountFlags::NO_EXEC)),
    (
        "rsymfollow",
        Effect::ClearAll(MountFlags::NO_SYMLINK_FOLLOW),
    ),
    (
        "rnosymfollow",
        Effect::SetAll(MountFlags::NO_SYMLINK_FOLLOW),
    ),
    ("ratime", Effect::ClearAll(MountFlags::NO_ATIME)),
    ("rnoatime", Effect::SetAll(MountFlags::NO_ATIME)),
    ("rdiratime", Effect::ClearAll(MountFlags::NO_DIR_ATIME)),
    ("rnodiratime", Effect::SetAll(MountFlags::NO_DIR_ATIME)),
    ("rrelatime", Effect::SetAll(MountFlags::RELATIME)),
    ("rnorelatime", Effect::ClearAll(MountFlags::RELATIME)),
    ("rstrictatime", Effect::SetAll(MountFlags::STRICT_ATIME)),
    ("rnostrictatime", Effect::ClearAll(MountFlags::STRICT_ATIME)),
    ("private", Effect::Propagate(Propagation::Private, false)),
    ("rprivate", Effect::Propagate(Propagation::Private, true)),
    ("shared", Effect::Propagate(Propagation::Shared, false)),
    ("rshared", Effect::Propagate(Propagation::Shared, true)),
    ("slave", Effect::Propagate(Propagation::Slave, false)),
    ("rslave", Effect::Propagate(Propagation::Slave, true)),
    (
        "unbindable",
        Effect::Propagate(Propagation::Unbindable, false),
    ),
    (
        "runbindable",
        Effect::Propagate(Propagation::Unbindable, true),
    ),
    ("bind", Effect::Bind(false)),
    ("rbind", Effect::Bind(true)),
    ("tmpcopyup", Effect::CopyUp),
    ("idmap", Effect::IdMap(false)),
    ("ridmap", Effect::IdMap(true)),
    ("acl", Effect::Nothing),
    ("noacl", Effect::Nothing),
    ("iversion", Effect::Nothing),
    ("noiversion", Effect::Nothing),
    ("mand", Effect::Nothing),
    ("nomand", Effect::Nothing),
    ("remount", Effect::Nothing),
    ("silent", Effect::Nothing),
    ("loud", Effect::Nothing),
    ("nofail", Effect::Nothing),
    ("_netdev", Effect::Nothing),
    ("user_xattr", Effect::Nothing),
    ("nouser_xattr", Effect::Nothing),
];

/// A mount's options, read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MountOptions {
    /// Flags of the mount.
    pub(crate) flags: MountFlags,
    /// Propagation, with `true` for the recursive form.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// The file system's own options.
    pub(crate) data: Vec<String>,
    /// It is a bind mount.
    pub(crate) bind: bool,
    /// `rbind`.
    pub(crate) recursive_bind: bool,
    /// `tmpcopyup`.
    pub(crate) copy_up: bool,
    /// `idmap` or `ridmap`: what follows its `=`, or nothing.
    pub(crate) id_map: Option<String>,
    /// `ridmap`.
    pub(crate) id_map_all: bool,
}

impl MountOptions {
    /// Reads `words` in order: a later one has the last say.
    pub(crate) fn read(words: &[String]) -> Self {
        let mut options = Self {
            flags: MountFlags::empty(),
            propagation: None,
            data: Vec::new(),
            bind: false,
            recursive_bind: false,
            copy_up: false,
            id_map: None,
            id_map_all: false,
        };
        for word in words.iter().filter(|word| !word.is_empty()) {
            let (name, value) = match word.split_once('=') {
                Some((name @ ("idmap" | "ridmap"), value)) => (name, value),
                _ => (word.as_str(), ""),
            };
            let effect = WORDS.iter().find(|(known, _)| *known == name);
            match effect.map(|(_, effect)| *effect) {
                Some(Effect::Set(flags)) => options.flags |= flags,
                Some(Effect::Clear(flags)) => options.flags -= flags,
                Some(Effect::SetAll(flags)) => {
                    options.flags |= flags | MountFlags::RECURSIVE;
                }
                Some(Effect::ClearAll(flags)) => options.flags -= flags,
                Some(Effect::Propagate(propagation, recursive)) => {
                    options.propagation = Some((propagation, recursive));
                }
                Some(Effect::Bind(recursive)) => {
                    options.bind = true;
                    options.recursive_bind |= recursive;
                }
                Some(Effect::CopyUp) => options.copy_up = true,
                Some(Effect::IdMap(all)) => {
                    options.id_map = Some(value.to_owned());
                    options.id_map_all = all;
                }
                Some(Effect::Nothing) => {}
                None => options.data.push(word.clone()),
            }
        }
        options
    }
}

/// The words, for `features`.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> MountOptions {
        let words: Vec<String> = words.split(',').map(str::to_owned).collect();
        MountOptions::read(&words)
    }

    #[test]
    fn podmans_tmpfs() {
        let options = read("rw,rprivate,nosuid,nodev,tmpcopyup,size=8m");
        assert_eq!(options.flags, MountFlags::NO_SUID | MountFlags::NO_DEV);
        assert_eq!(options.propagation, Some((Propagation::Private, true)));
        assert_eq!(options.data, ["size=8m"]);
        assert!(options.copy_up && !options.bind);
    }

    #[test]
    fn the_last_word_counts_and_recursion_is_for_recursive_words_alone() {
        assert_eq!(read("ro,rw,rbind").flags, MountFlags::empty());
        assert_eq!(read("rbind,ro").flags, MountFlags::READ_ONLY);
        assert_eq!(
            read("rbind,rro").flags,
            MountFlags::READ_ONLY | MountFlags::RECURSIVE
        );
    }
}
