//! Container images for the tests and the demo, made here since the test VM has no network. None
//! has a Vulkan driver: that is the point of the GPU's tests.

mod wheels;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    build::Builder,
    cache::{CacheError, Inputs},
    host::{self, HostError},
    process::{self, ProcessError},
    progress,
    tree::NamespaceError,
};

const TITLE: &str = "container image";

/// Files that a small image goes without.
const LEFT_OUT: [&str; 4] = ["doc", "man", "locale", "info"];

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The host's packages.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The tree could not be given the network.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// mmdebstrap or pip.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// How an image is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// `NAME.tar`, for `podman import`.
    Archive,
    /// The folder `NAME`, for `podman run --rootfs`: too large to be unpacked in the test VM.
    Folder,
}

/// What a few packages stand on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Base {
    /// A Debian that works: its essential packages, and everything set up.
    Debian,
    /// The same, but this shell script has seen it (`$1`) before the packages are set up.
    Prepared(&'static str),
    /// What the packages need and no more, unpacked and not set up: made in seconds.
    Nothing,
}

/// A Debian of some release with a few packages.
#[derive(Debug)]
pub(crate) struct Image {
    /// What the tests call it.
    pub(crate) name: &'static str,
    suite: &'static str,
    packages: &'static str,
    base: Base,
    form: Form,
    /// Whether tests/python/requirements.txt is installed in it.
    wheels: bool,
}

/// The Debian that the tests and the demo use most, with vulkaninfo.
pub(crate) static DEBIAN: Image = debian("debian", "trixie");

/// What the tests use besides.
static OTHERS: [Image; 7] = [
    debian("bookworm", "bookworm"),
    debian("bullseye", "bullseye"),
    Image {
        name: "python",
        suite: "trixie",
        packages: "python3,libstdc++6,libx11-6,libvulkan1",
        base: Base::Debian,
        form: Form::Folder,
        wheels: true,
    },
    Image {
        name: "gl",
        suite: "trixie",
        packages: "libgl1-mesa-dri,libegl1,libegl-mesa0,mesa-utils-bin,libvulkan1,python3",
        base: Base::Debian,
        form: Form::Folder,
        wheels: false,
    },
    Image {
        name: "llama",
        suite: "forky",
        packages: "base-files,llama.cpp-tools,libggml0-backend-vulkan",
        base: Base::Nothing,
        form: Form::Folder,
        wheels: false,
    },
    Image {
        name: "services",
        suite: "trixie",
        packages: "systemd-sysv,dbus,procps,postgresql",
        // The case that runs PostgreSQL makes its own cluster, the one that boots systemd none.
        base: Base::Prepared(
            "mkdir -p \"$1/etc/postgresql-common\"
             echo create_main_cluster=false >\"$1/etc/postgresql-common/createcluster.conf\"",
        ),
        form: Form::Folder,
        wheels: false,
    },
    // An engine and its host's libraries, older than the tree's.
    Image {
        name: "podman-4.3",
        suite: "bookworm",
        packages: "podman,conmon,crun,netavark,mount",
        base: Base::Debian,
        form: Form::Folder,
        wheels: false,
    },
];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Image> {
    [&DEBIAN].into_iter().chain(&OTHERS)
}

const fn debian(name: &'static str, suite: &'static str) -> Image {
    Image {
        name,
        suite,
        packages: "vulkan-tools",
        base: Base::Debian,
        form: Form::Archive,
        wheels: false,
    }
}

impl Image {
    /// The folder that holds the image, out of the cache or new.
    pub(crate) fn make(&self, builder: &Builder<'_>) -> Result<PathBuf, ImageError> {
        let wheels = self.wheels.then(|| wheels::make(builder)).transpose()?;
        let recipe = self.recipe(wheels.as_deref());
        let hash = Inputs::default()
            .bytes(format!("{self:?} {recipe:?}"))
            .hash();
        let name = format!("image-{}", self.name);
        builder.cache.entry(TITLE, &name, &hash, |path| {
            host::require_mmdebstrap(builder.cache)?;
            progress::step(TITLE, format!("making {} with mmdebstrap", self.name));
            let target = match self.form {
                Form::Archive => path.join(format!("{}.tar", self.name)),
                Form::Folder => path.join(self.name),
            };
            let mut command = Command::new("mmdebstrap");
            command.args(&recipe).arg(self.suite).arg(target);
            command.arg(crate::tree::ARCHIVE);
            process::run_logged(&mut command, &builder.cache.log(&name)).map_err(ImageError::from)
        })
    }

    /// The arguments of mmdebstrap, but for the release and the places.
    fn recipe(&self, wheels: Option<&Path>) -> Vec<String> {
        let variant = match self.base {
            Base::Debian | Base::Prepared(_) => "essential",
            Base::Nothing => "extract",
        };
        let mut recipe = vec![
            "--mode=root".to_owned(),
            format!("--variant={variant}"),
            "--components=main".to_owned(),
            format!("--include={}", self.packages),
        ];
        if self.suite == "forky" {
            // Lists of a release in the making are valid for a week, and mirrors may be older.
            recipe.push("--aptopt=Acquire::Check-Valid-Until \"false\"".to_owned());
        }
        recipe.extend(LEFT_OUT.map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")));
        if let Base::Prepared(script) = self.base {
            recipe.push(format!("--essential-hook={script}"));
        }
        recipe.extend(wheels.map(|path| {
            let site = "/usr/local/lib/python3.13";
            format!("--customize-hook=copy-in {} {site}", path.display())
        }));
        recipe
    }
}
