//! A gigabyte each way and ten thousand connections: all arrives, and the VMM is as it was before.
//! (Under emulation the first gigabyte takes a minute or two each way, most of it for pages of the
//! guest's that are touched for the first time.)

use super::script;
use crate::harness::{Case, Outcome, ensure, sh};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "network::bulk_received",
        run: || bulk(true, 16, 0),
    },
    Case {
        name: "network::bulk_sent",
        run: || bulk(true, 0, 16),
    },
    Case {
        name: "network::bulk_by_a_thread",
        run: || bulk(false, 4, 4),
    },
    Case {
        name: "network::short_connections",
        run: short_connections,
    },
];

/// Shell functions that look at the VMM `$pid`: `note` what it has, and say later that it has `kept`
/// to it. Its own memory is that of mappings that are not the guest's (`dc` in smaps(5): not for
/// children).
const WATCH: &str = r#"
files() { ls /proc/$pid/fd | wc -l; }
threads() { ls /proc/$pid/task | wc -l; }
memory() { awk '/^Private_/ { kib += $2 } /^VmFlags:/ { if ($0 !~ / dc/) total += kib; kib = 0 } END { print total }' /proc/$pid/smaps; }
note() { files=$(files) threads=$(threads) memory=$(memory); }
kept() { [ $(files) -le $((files + 4)) ] && [ $(threads) -le $((threads + 2)) ] && [ $(memory) -le $((memory + 4096)) ]; }
look() { kept && echo no more than before || echo "$(files) of $files descriptors, $(threads) of $threads threads, $(memory) of $memory KiB"; }
"#;

/// What every case here ends with.
const KEPT: &str = "no more than before\n";

/// 64 MiB, `received` times to a container and `sent` times from it (16 times are 1 GiB), arrive as
/// they were, whoever moves frames: the host's kernel or a thread.
fn bulk(vhost: bool, received: u32, sent: u32) -> Outcome {
    let ours = sh(&script(&format!(
        r#"{WATCH}
        mkdir /etc/krun-gpu /tmp/bulk; trap 'rm -r /etc/krun-gpu /tmp/bulk' EXIT
        echo vhost_net = {vhost} >/etc/krun-gpu/config.toml
        head -c 67108864 /dev/urandom >/tmp/bulk/data
        cat >/tmp/bulk/both.py <<'EOF'
import socket
with open("/tmp/bulk/data", "rb") as f: pieces = [f.read(1 << 20) for _ in range(64)]
def send(c, rounds):
    for _ in range(rounds):
        for piece in pieces: c.sendall(piece)
# Into one piece of memory: every page that is touched for the first time is dear under emulation.
def receive(c, rounds):
    got = bytearray(1 << 20)
    print(sum(c.recv_into(got, 0, socket.MSG_WAITALL) and got == piece for _ in range(rounds) for piece in pieces), "MiB", flush=True)
EOF
        serve='from both import *
c = socket.create_server(("", 7000)).accept()[0]; receive(c, {received}); send(c, {sent}); c.recv(1)'
        podman run -d --runtime $RUNTIME $tools -v /tmp/bulk:/tmp/bulk:ro -w /tmp/bulk --name c $BB sh -c '/usr/bin/python3 -c "$0"; sleep 1000' "$serve" >/dev/null
        ip=$(podman inspect c --format '{{{{.NetworkSettings.IPAddress}}}}'); pid=$(podman inspect c --format '{{{{.State.Pid}}}}')
        cat /proc/$pid/task/*/comm | sed 's/vhost-.*/vhost/' | grep -x -e vhost -e net
        listens() {{ podman exec c grep -q 00000000:1B58 /proc/net/tcp; }}
        patiently listens
        note
        cd /tmp/bulk; timeout $((LIMIT - 50)) python3 -c "from both import *
c = socket.create_connection(('$ip', 7000)); send(c, {received}); receive(c, {sent})"
        podman logs c
        look
        podman rm -f -t 0 c >/dev/null"#,
    )))?;
    let mover = if vhost { "vhost" } else { "net" };
    ensure(
        ours.stdout == format!("{mover}\n{} MiB\n{} MiB\n{KEPT}", sent * 64, received * 64),
        || ours.to_string(),
    )
}

/// 10,000 connections, fifty at a time, each with an answer of its own.
fn short_connections() -> Outcome {
    let ours = sh(&script(&format!(
        r#"{WATCH}
        serve='import socket
s=socket.create_server(("",7000),backlog=512)
while True:
    with s.accept()[0] as c: c.sendall(c.recv(16)[::-1])'
        podman run -d --runtime $RUNTIME $tools --name c $BB /usr/bin/python3 -c "$serve" >/dev/null
        ip=$(podman inspect c --format '{{{{.NetworkSettings.IPAddress}}}}'); pid=$(podman inspect c --format '{{{{.State.Pid}}}}')
        patiently socat -u OPEN:/dev/null TCP:$ip:7000
        note
        timeout $((LIMIT - 50)) python3 - $ip <<'EOF'
import os, socket, sys
def right():
    many = [(socket.socket(), os.urandom(16)) for _ in range(50)]
    for c, _ in many:
        c.setblocking(False); c.connect_ex((sys.argv[1], 7000))
    # Sending waits until a socket is connected.
    for c, data in many:
        c.settimeout(60); c.sendall(data)
    count = sum(c.recv(16, socket.MSG_WAITALL) == data[::-1] for c, data in many)
    for c, _ in many: c.close()
    return count
print(sum(right() for _ in range(200)), "answers")
EOF
        look
        podman rm -f -t 0 c >/dev/null"#,
    )))?;
    ensure(ours.stdout == format!("10000 answers\n{KEPT}"), || {
        ours.to_string()
    })
}
