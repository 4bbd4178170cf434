//! QEMU's command line.

use std::{path::Path, process::Command};

use super::{Clock, FileSystem, Vm, VmError, serial::Port};

/// What the tree's kernel is told: its root is the tree, its init is ours, and nothing is printed
/// but what is wrong. Mitigations would only make an emulated processor slower.
const KERNEL_OPTIONS: &str = "root=tree rootfstype=virtiofs ro init=/srv/init console=ttyS0 \
     panic=-1 loglevel=4 mitigations=off random.trust_cpu=on";

/// The processor: all that QEMU can emulate, less what makes emulation slower. Told that a string
/// instruction is the fastest copy (erms and its kin), kernel and libc copy byte by byte, which
/// takes two and a half times as long as in words or vectors; a fifth level of page tables (la57)
/// lengthens every walk; SMAP ends a translated block at each copy from or to a process. Together
/// a `podman run` under crun takes about 0.75 of the time.
const CPU: &str = "max,-erms,-fsrm,-fzrm,-fsrs,-fsrc,-la57,-smap";

/// The moment at which the instruction clock starts: any will do, as long as it is always the
/// same.
const INSTRUCTION_EPOCH: &str = "2026-01-01T00:00:00";

/// QEMU for `vm`, with its kernel's console in the file `console`.
pub(super) fn command(vm: &Vm<'_>, ports: Vec<Port>, console: &Path) -> Result<Command, VmError> {
    let options = &vm.options;
    let memory = options.memory;
    let mut qemu = vm
        .namespace
        .command("qemu-system-x86_64")
        .args([
            "-M",
            "q35,usb=off",
            "-cpu",
            CPU,
            "-nodefaults",
            "-no-user-config",
        ])
        .args([
            "-display",
            "none",
            "-no-reboot",
            "-smp",
            &options.cpus.to_string(),
        ])
        .args([
            "-m",
            &format!("{memory}M"),
            "-numa",
            "node,memdev=memory",
            "-object",
        ])
        .arg(format!(
            "memory-backend-memfd,id=memory,size={memory}M,share=on"
        ))
        .args(["-device", "virtio-rng-pci"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    qemu = match &options.kernel {
        None => qemu
            .arg("-kernel")
            .arg(vm.tree.kernel()?)
            .args(["-append", KERNEL_OPTIONS]),
        Some(kernel) => qemu
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(&kernel.initramfs)
            .args(["-append", &format!("{KERNEL_OPTIONS} {}", kernel.options)]),
    };
    qemu = match options.clock {
        Clock::Host => qemu.args(["-accel", "tcg,thread=multi"]),
        Clock::Instructions => qemu
            .args([
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-seed",
                "1",
            ])
            .args(["-rtc", &format!("base={INSTRUCTION_EPOCH},clock=vm")]),
    };
    for file_system in &vm.file_systems {
        let FileSystem { tag, .. } = file_system;
        let socket = file_system.socket();
        qemu = qemu
            .arg("-chardev")
            .arg(format!("socket,id={tag},path={}", socket.display()))
            .arg("-device")
            .arg(format!(
                "vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"
            ));
    }
    qemu = qemu.args(["-device", "virtio-serial-pci"]);
    for port in ports {
        qemu = qemu.args(port.arguments()).inherit(port.into_descriptor());
    }
    Ok(qemu.finish())
}
