//! Boots one microVM and prints what it said: `boot --kernel vmlinux --initramfs cpio`.
//!
//! For trying kernels and devices without any container. Ends with status 0 when the guest reset
//! itself, 1 when it ended otherwise, 2 when it was stopped because its time was up.

mod common;

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use krun_gpu_vmm::devices::fs::FsConfig;
use krun_gpu_vmm::devices::vsock::VsockConfig;
use krun_gpu_vmm::{ExitReason, MicroVm, VmConfig};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Boot one microVM and print its console.
#[derive(Debug, Parser)]
struct Arguments {
    /// An uncompressed vmlinux
    #[arg(long)]
    kernel: PathBuf,
    /// A cpio archive
    #[arg(long)]
    initramfs: PathBuf,
    /// Appended to the kernel's command line
    #[arg(long, default_value = "")]
    cmdline: String,
    /// Guest memory in MiB
    #[arg(long, default_value_t = 256)]
    memory: u64,
    /// Number of vCPUs
    #[arg(long, default_value_t = 1)]
    vcpus: u8,
    /// Directory for the guest, under the tag "krun-root"
    #[arg(long)]
    root: Option<PathBuf>,
    /// Give the guest a GPU, with this virgl_render_server
    #[arg(long)]
    render_server: Option<PathBuf>,
    /// Places for network interfaces, all of them empty
    #[arg(long, default_value_t = 0)]
    nic_slots: u8,
    /// Stop the guest after this many seconds
    #[arg(long, default_value_t = 60)]
    timeout: u32,
    /// Print times, memory and CPU time
    #[arg(long)]
    statistics: bool,
    /// Print the process' smaps when the guest has ended
    #[arg(long)]
    smaps: bool,
}

fn main() -> ExitCode {
    common::end("boot", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let cpu_before = cpu_time()?;
    let config = VmConfig {
        kvm: OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/kvm")?),
        kernel: File::open(&arguments.kernel)?,
        initramfs: File::open(&arguments.initramfs)?,
        vcpus: arguments.vcpus,
        memory: arguments.memory << 20,
        cmdline: arguments.cmdline.clone(),
        vsock: VsockConfig {
            guest_cid: 3,
            stream_port: 1025,
        },
        root: arguments
            .root
            .as_ref()
            .map(|directory| FsConfig::new("krun-root", directory, arguments.vcpus.into())),
        nested: false,
        gpu: match &arguments.render_server {
            Some(program) => Some(common::gpu(
                program,
                Some(File::open("/")?.into()),
                4 << 30,
            )?),
            None => None,
        },
        disks: Vec::new(),
        nic_slots: arguments.nic_slots,
    };
    let mut vm = MicroVm::build(config)?;
    vm.start()?;
    let cpu_set_up = cpu_time()? - cpu_before;
    let ended = wait(&vm, arguments.timeout)?;
    let reason = vm.exit_reason();
    let usage = if arguments.statistics || arguments.smaps {
        Some(usage(&vm)?)
    } else {
        None
    };
    let before_stop = Instant::now();
    vm.stop();
    let stopping = before_stop.elapsed();

    print!("{}", String::from_utf8_lossy(&vm.console()));
    match &reason {
        Some(reason) => println!("boot: {reason}"),
        None => println!("boot: stopped after {} s", arguments.timeout),
    }
    if let Some((text, smaps)) = usage {
        if arguments.statistics {
            statistics(&vm, cpu_set_up, stopping, &text);
        }
        if arguments.smaps {
            print!("{smaps}");
        }
    }
    Ok(match reason {
        Some(ExitReason::Reset) => ExitCode::SUCCESS,
        None if !ended => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
}

fn wait(vm: &MicroVm, seconds: u32) -> Result<bool, Box<dyn Error>> {
    let exited = vm.exited();
    let timeout = Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(exited.as_fd(), PollFlags::IN)];
    Ok(poll(&mut fds, Some(&timeout))? > 0)
}

fn statistics(vm: &MicroVm, cpu_set_up: Duration, stopping: Duration, memory: &str) {
    let milestones = vm.milestones();
    let since = |instant: Option<Instant>| {
        instant.map_or("never".to_owned(), |instant| {
            format!("{:.1} ms", (instant - milestones.began).as_secs_f64() * 1e3)
        })
    };
    println!("built after           {}", since(Some(milestones.built)));
    println!("first guest entry     {}", since(milestones.first_entry));
    println!(
        "first console byte    {}",
        since(milestones.first_console_byte)
    );
    println!(
        "CPU time of set-up    {:.1} ms",
        cpu_set_up.as_secs_f64() * 1e3
    );
    println!(
        "stopping took         {:.1} ms",
        stopping.as_secs_f64() * 1e3
    );
    print!("{memory}");
}

/// User and system time of this process.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::try_from(clock)?)
}

/// Memory by smaps: the guest's pages by kind, and the VMM's own private ones.
fn usage(vm: &MicroVm) -> Result<(String, String), Box<dyn Error>> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let ranges = vm.guest_memory_ranges();
    let (mut own, mut resident, mut anonymous) = (0, 0, 0);
    let mut guest = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some((start, _)) = first.split_once('-') {
            let start = u64::from_str_radix(start, 16)?;
            guest = ranges
                .iter()
                .any(|(base, length)| (*base..base + length).contains(&start));
            continue;
        }
        let kib: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match (first, guest) {
            ("Private_Dirty:", false) => own += kib,
            ("Rss:", true) => resident += kib,
            ("Anonymous:", true) => anonymous += kib,
            _ => {}
        }
    }
    let text = format!(
        "VMM's private memory  {own} KiB\nguest memory          {anonymous} KiB of its own, {} KiB \
         of the images' page cache\n",
        resident - anonymous,
    );
    Ok((text, smaps))
}
