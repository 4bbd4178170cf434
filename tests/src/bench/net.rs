//! A container's network next to crun's: throughput and its cost, connections, round trips, and what
//! a NIC adds to a container's start.
//!
//! Server and client are iperf3 and Python of the host's, shown to the container; the client runs
//! on the host. `vhost` and `thread` are krun-gpu with either mover of frames, `passt` is krun-gpu
//! with `--network host`. The machine's whole CPU time is counted, both ends and the guest.

use std::fmt::Write as _;
use std::time::Instant;

use libtest_mimic::Failed;

use super::median;
use crate::harness::command::sh_with;
use crate::harness::{ensure, images};

/// Rounds of each figure.
const ROUNDS: usize = 3;

/// Who is measured: a name, the runtime, whether with vhost-net, the network.
const SUBJECTS: [(&str, &str, bool, &str); 4] = [
    ("crun", "crun", false, "podman"),
    ("vhost", "krun-gpu", true, "podman"),
    ("thread", "krun-gpu", false, "podman"),
    (
        "passt",
        "krun-gpu",
        false,
        "host --annotation io.krun-gpu.ports=5201,5300",
    ),
];

/// Lines of [`MEASURE`].
const FIGURES: usize = 8;

/// Starts the servers, waits for them, and prints a figure on each line.
const MEASURE: &str = r#"
podman rm -f -t 0 bench >/dev/null 2>&1 # Of one that took too long.
mkdir -p /etc/krun-gpu; trap 'rm -r /etc/krun-gpu; podman rm -f -t 0 bench >/dev/null 2>&1' EXIT; echo "vhost_net = $VHOST" >/etc/krun-gpu/config.toml
serve='import socket,threading
def one(c):
    with c:
        while True:
            b=c.recv(1)
            if not b: return
            c.sendall(b)
s=socket.create_server(("",5300),backlog=128)
while True:
    c,_=s.accept(); c.setsockopt(6,1,1); threading.Thread(target=one,args=(c,),daemon=True).start()'
podman run -d --runtime $RUNTIME --network $NETWORK --name bench -v /usr:/usr:ro -v /usr/lib:/lib:ro \
    -v /usr/lib64:/lib64:ro $BB sh -c '/usr/bin/iperf3 -s >/dev/null & exec /usr/bin/python3 -c "$0"' "$serve" >/dev/null
ip=$(podman inspect bench --format '{{.NetworkSettings.IPAddress}}'); ip=${ip:-127.0.0.1}
python3 - $ip <<'EOF'
import json, socket, statistics, subprocess, sys, time
ip = sys.argv[1]
def busy():
    user, nice, system, idle, wait, irq, soft = map(int, open("/proc/stat").readline().split()[1:8])
    return (user + nice + system + irq + soft) / 100
def connect():
    c = socket.create_connection((ip, 5300), 30); c.setsockopt(6, 1, 1)
    c.sendall(b"x"); assert c.recv(1) == b"x"
    return c
for attempt in range(300):
    try: connect().close(); break
    except (OSError, AssertionError): time.sleep(0.1)
for name, more in [("to the container, one stream", []), ("from the container, one stream", ["-R"]),
                   ("to the container, four streams", ["-P", "4"]), ("from the container, four streams", ["-R", "-P", "4"])]:
    before = busy()
    out = subprocess.run(["iperf3", "-c", ip, "-t", "2", "-J"] + more, capture_output=True, timeout=60)
    after = busy(); report = json.loads(out.stdout)
    if "sum_received" not in report["end"]: sys.exit(f"{name}: {report.get('error')}")
    received = report["end"]["sum_received"]
    print("Mbit/s " + name, received["bits_per_second"] / 1e6, sep="|")
    if "one" in name: print("Gbit per CPU second " + name, received["bytes"] * 8e-9 / (after - before), sep="|")
start = time.monotonic(); count = 0
while time.monotonic() < start + 2: connect().close(); count += 1
print("connections/s", count / (time.monotonic() - start), sep="|")
c = connect(); times = []
for _ in range(300):
    t = time.perf_counter(); c.sendall(b"x"); c.recv(1); times.append(time.perf_counter() - t)
print("round trips/s (1 over the median)", 1 / statistics.median(times), sep="|")
EOF
"#;

/// Throughput and latency, in alternating rounds.
pub(super) fn traffic() -> Result<(), Failed> {
    images::busybox()?;
    // Figures by name, in the order of the first round, each with a list for every subject.
    let mut figures: Vec<(String, [Vec<f64>; SUBJECTS.len()])> = Vec::new();
    let mut failed = 0;
    for round in 1..=ROUNDS {
        for (subject, (name, runtime, vhost, network)) in SUBJECTS.iter().enumerate() {
            let script = format!("VHOST={vhost} NETWORK='{network}'\n{MEASURE}");
            let measured = sh_with(runtime, &script).and_then(|output| {
                let whole = output.status == 0 && output.stdout.lines().count() == FIGURES;
                ensure(whole, || output.to_string()).map(|()| output)
            });
            let output = match measured {
                Ok(output) => output,
                Err(error) => {
                    // The others' figures are worth having.
                    eprintln!(
                        "round {round}, {name}: {}",
                        error.message().unwrap_or_default()
                    );
                    failed += 1;
                    continue;
                }
            };
            eprintln!(
                "round {round}, {name}: {}",
                output.stdout.replace('\n', "; ")
            );
            for (name, value) in output.stdout.lines().filter_map(|line| {
                let (name, value) = line.split_once('|')?;
                Some((name, value.parse().ok()?))
            }) {
                let index = figures.iter().position(|(known, _)| known == name);
                let index = index.unwrap_or_else(|| {
                    figures.push((name.to_owned(), Default::default()));
                    figures.len() - 1
                });
                figures[index].1[subject].push(value);
            }
        }
    }
    println!("network, medians of {ROUNDS}; in brackets over crun's");
    for (name, mut lists) in figures {
        let medians = lists.each_mut().map(|list| median(list));
        let mut line = format!("  {name}:");
        for ((subject, ..), value) in SUBJECTS.iter().zip(medians) {
            // Writing to a string cannot fail.
            let _ = write!(line, " {subject} {value:.1} ({:.2})", value / medians[0]);
        }
        println!("{line}");
    }
    ensure(failed == 0, || {
        format!("{failed} times somebody could not be measured")
    })
}

/// `podman run` of a program that ends at once, with a network and without, under both runtimes.
pub(super) fn start() -> Result<(), Failed> {
    images::busybox()?;
    let runs = [
        ("crun", "none"),
        ("crun", "podman"),
        ("krun-gpu", "none"),
        ("krun-gpu", "podman"),
    ];
    let mut times = runs.map(|_| Vec::new());
    for round in 0..=ROUNDS {
        for ((runtime, network), times) in runs.iter().zip(&mut times) {
            let script =
                format!("podman run --rm --runtime {runtime} --network {network} $BB true");
            let start = Instant::now();
            let output = sh_with(runtime, &script)?;
            ensure(output.status == 0, || output.to_string())?;
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    let [none, bridge, our_none, our_bridge] = times.each_mut().map(|times| median(times));
    println!(
        "podman run IMG true, a bridge over none: krun-gpu {:.0} ms, crun {:.0} ms; the difference is \
         {:.0} % of krun-gpu's start (medians of {ROUNDS})",
        our_bridge - our_none,
        bridge - none,
        100.0 * (our_bridge - our_none - bridge + none) / our_bridge
    );
    Ok(())
}
