//! The images, made once per run in the test VM; nothing is pulled.

use std::sync::OnceLock;

use libtest_mimic::Failed;

use super::command::{sh, sh_as_user};
use super::{Output, fail};

/// Python with the wheels of tests/python/requirements.txt, for `--rootfs`. `cargo xtask` puts it
/// and the others there.
pub(crate) const PYTHON: &str = "/usr/local/share/krun-gpu-tests/python/python";

/// Mesa's GL and eglinfo, for `--rootfs`.
pub(crate) const GL: &str = "/usr/local/share/krun-gpu-tests/gl/gl";

/// llama.cpp and ggml with its Vulkan backend, for `--rootfs`.
pub(crate) const LLAMA: &str = "/usr/local/share/krun-gpu-tests/llama/llama";

/// systemd and PostgreSQL, for `--rootfs`.
pub(crate) const SERVICES: &str = "/usr/local/share/krun-gpu-tests/services/services";

/// Debian bookworm with its Podman 4.3, conmon and crun, to be a root of its own.
pub(crate) const PODMAN_4_3: &str = "/usr/local/share/krun-gpu-tests/podman-4.3/podman-4.3";

/// The source of the musl image's `/bin/vulkan`.
const MUSL_VULKAN: &str = include_str!("../../musl/vulkan.c");

/// busybox (static) and nothing else, with the files that a login needs.
const BUSYBOX: &str = r#"
set -e
dir=$(mktemp -d)
mkdir -p $dir/bin $dir/etc $dir/tmp $dir/root $dir/home/user $dir/var $dir/proc $dir/sys $dir/dev $dir/run
chmod 1777 $dir/tmp
cp /bin/busybox $dir/bin/busybox
for name in $($dir/bin/busybox --list); do [ $name = busybox ] || ln -s busybox $dir/bin/$name; done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n' > $dir/etc/passwd
printf 'root:x:0:\nuser:x:1000:\nextra:x:2000:user\n' > $dir/etc/group
printf 'not a program\n' > $dir/etc/plain
chown 1000:1000 $dir/home/user
tar -C $dir -c . | podman import -q - localhost/busybox
rm -rf $dir
"#;

/// Two dynamic musl programs with musl's loader.
const MUSL: &str = r#"
set -e
dir=$(mktemp -d)
mkdir -p $dir/lib $dir/bin
printf %s "$MUSL_VULKAN" >$dir/v.c
musl-gcc -idirafter /usr/include -o $dir/bin/vulkan $dir/v.c
printf '#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *x) { puts("thread"); return x; }\nint main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); puts("musl"); return 7; }\n' > $dir/p.c
musl-gcc -o $dir/bin/program $dir/p.c -lpthread
rm $dir/[pv].c
cp -L /lib/ld-musl-x86_64.so.1 $dir/lib/
tar -C $dir -c . | podman import -q - localhost/musl
rm -rf $dir
"#;

/// vulkaninfo with the Vulkan loader and the libraries that they need, beside busybox; no driver.
const VULKAN: &str = r#"
set -e
dir=$(mktemp -d)
mkdir -p $dir/bin $dir/etc/vulkan/icd.d $dir/tmp
cp /bin/busybox $dir/bin/busybox
for name in $($dir/bin/busybox --list); do [ $name = busybox ] || ln -s busybox $dir/bin/$name; done
cp /usr/bin/vulkaninfo $dir/bin/
loader=$(ls /usr/lib/*/libvulkan.so.1)
needed=$(for file in /usr/bin/vulkaninfo $loader; do ldd $file; done | grep -o '/[^ )]*\.so[^ )]*' | sort -u)
for file in $loader $needed $(ls /usr/lib/*/libpthread.so.0 /usr/lib/*/libdl.so.2 /usr/lib/*/librt.so.1); do
    mkdir -p $dir$(dirname $file); cp -L $file $dir$file
done
printf 'root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n' > $dir/etc/passwd
tar -C $dir -c . | podman import -q - localhost/vulkan
rm -rf $dir
"#;

static BUSYBOX_MADE: OnceLock<Output> = OnceLock::new();
static BUSYBOX_OF_USER_MADE: OnceLock<Output> = OnceLock::new();
static MUSL_MADE: OnceLock<Output> = OnceLock::new();
static DEBIAN_MADE: OnceLock<Output> = OnceLock::new();
static BOOKWORM_MADE: OnceLock<Output> = OnceLock::new();
static BULLSEYE_MADE: OnceLock<Output> = OnceLock::new();
static VULKAN_MADE: OnceLock<Output> = OnceLock::new();
static VULKAN_OF_USER_MADE: OnceLock<Output> = OnceLock::new();

fn once(
    made: &OnceLock<Output>,
    make: impl FnOnce() -> Result<Output, Failed>,
) -> Result<(), Failed> {
    if made.get().is_none() {
        let output = make()?;
        // Only one case runs at a time, so nobody else can have set it.
        let _ = made.set(output);
    }
    match made.get() {
        Some(output) if output.status == 0 => Ok(()),
        Some(output) => fail(format!("the test's image could not be made: {output}")),
        None => fail("the test's image could not be made"),
    }
}

/// `localhost/busybox`.
pub(crate) fn busybox() -> Result<(), Failed> {
    once(&BUSYBOX_MADE, || sh(BUSYBOX))
}

/// `localhost/busybox` in the ordinary user's storage.
pub(crate) fn busybox_of_user() -> Result<(), Failed> {
    once(&BUSYBOX_OF_USER_MADE, || {
        sh_as_user("crun", &BUSYBOX.replace("chown 1000:1000", ": "))
    })
}

/// `localhost/musl`, whose `/bin/program` and `/bin/vulkan` are dynamic musl programs.
pub(crate) fn musl() -> Result<(), Failed> {
    once(&MUSL_MADE, || {
        let source = MUSL_VULKAN.replace('\'', "'\\''");
        sh(&format!("MUSL_VULKAN='{source}'\n{MUSL}"))
    })
}

/// `localhost/vulkan`, which has vulkaninfo and no Vulkan driver.
pub(crate) fn vulkan() -> Result<(), Failed> {
    once(&VULKAN_MADE, || sh(VULKAN))
}

/// `localhost/vulkan` in the ordinary user's storage.
pub(crate) fn vulkan_of_user() -> Result<(), Failed> {
    once(&VULKAN_OF_USER_MADE, || sh_as_user("crun", VULKAN))
}

/// `localhost/debian`: trixie with vulkaninfo.
pub(crate) fn debian() -> Result<(), Failed> {
    import(&DEBIAN_MADE, "debian")
}

/// `localhost/bookworm` with vulkaninfo.
pub(crate) fn bookworm() -> Result<(), Failed> {
    import(&BOOKWORM_MADE, "bookworm")
}

/// `localhost/bullseye` with vulkaninfo.
pub(crate) fn bullseye() -> Result<(), Failed> {
    import(&BULLSEYE_MADE, "bullseye")
}

fn import(made: &OnceLock<Output>, name: &str) -> Result<(), Failed> {
    let archive = format!("/usr/local/share/krun-gpu-tests/{name}/{name}.tar");
    once(made, || {
        sh(&format!("podman import -q {archive} localhost/{name}"))
    })
}
