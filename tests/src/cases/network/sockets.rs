//! Sockets of every kind in a container, and a link that goes or cannot be had.

use super::script;
use crate::harness::{Case, Outcome, ensure, same, sh};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "network::sockets",
        run: sockets,
    },
    Case {
        name: "network::peer_deleted",
        run: peer_deleted,
    },
    Case {
        name: "network::no_tap",
        run: no_tap,
    },
];

/// What a container may do on its link: any port, ports that are shared, multicast both ways, echo
/// requests and whole frames made by hand.
const SOCKETS: &str = r#"
import errno, socket, struct, time
def bound(kind, port, *options):
    s = socket.socket(socket.AF_INET, kind); s.settimeout(60)
    for option in options: s.setsockopt(socket.SOL_SOCKET, option, 1)
    s.bind(("", port)); return s
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    first = bound(kind, 0, socket.SO_REUSEPORT); port = first.getsockname()[1]
    second = bound(kind, port, socket.SO_REUSEPORT); print("port shared", port > 1023)
    try: bound(kind, port)
    except OSError as e: print(errno.errorcode[e.errno])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect((GATEWAY, 9)); own = u.getsockname()[0]
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); frames.bind(("eth0", 0)); frames.settimeout(1)
mac = frames.getsockname()[4]; address = socket.inet_aton
def sniff(send, wanted):
    for attempt in range(30):
        send()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try: frame = frames.recv(2000)
            except TimeoutError: break
            if frame[:6] == mac and wanted(frame): return "seen"
ask = b"\xff" * 6 + mac + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, 1) + mac + address(own) + bytes(6) + address(GATEWAY)
print("arp", sniff(lambda: frames.send(ask), lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\0\2" and f[28:32] == address(GATEWAY)))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
echo = struct.pack("!BBHHH", 8, 0, 0xffff - 0x800 - 0x4242 - 1, 0x4242, 1)
print("icmp", sniff(lambda: raw.sendto(echo, (GATEWAY, 0)), lambda f: f[12:14] == b"\x08\0" and f[23] == 1 and f[34] == 0 and f[38:40] == b"BB"))
m = bound(socket.SOCK_DGRAM, 5007)
m.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, address("239.1.2.3") + address(own))
print("joined", flush=True)
data, peer = m.recvfrom(100); print("multicast", data, peer[0])
m.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, address(own))
for attempt in range(20): m.sendto(b"from it", ("239.1.2.4", 5008)); time.sleep(0.1)
"#;

fn sockets() -> Outcome {
    let ours = same(&script(&format!(
        r#"mkdir /tmp/sockets; trap 'rm -r /tmp/sockets' EXIT
        printf 'GATEWAY = "10.88.0.1"\n' >/tmp/sockets/program; cat >>/tmp/sockets/program <<'EOF'
{SOCKETS}
EOF
        podman run -d --runtime $RUNTIME $tools --cap-add NET_RAW -v /tmp/sockets:/s:ro --name c $BB /usr/bin/python3 /s/program >/dev/null
        joined() {{ podman logs c | grep -q joined; }}
        patiently joined
        timeout 60 python3 - <<'EOF'
import socket, threading, time
address = socket.inet_aton
r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); r.bind(("", 5008)); r.settimeout(40)
r.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, address("239.1.2.4") + address("10.88.0.1"))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, address("10.88.0.1"))
def send():
    for attempt in range(100): s.sendto(b"to it", ("239.1.2.3", 5007)); time.sleep(0.1)
threading.Thread(target=send, daemon=True).start()
print(r.recv(100))
EOF
        podman wait c; podman logs c; podman rm c >/dev/null"#,
    )))?;
    let ports = "port shared True\nEADDRINUSE\n".repeat(2);
    ensure(
        ours.stdout
            == format!(
                "b'from it'\n0\n{ports}arp seen\nicmp seen\njoined\nmulticast b'to it' 10.88.0.1\n"
            ),
        || ours.to_string(),
    )
}

/// The host's end of the link is deleted while frames come, whoever moves them: the container goes
/// on without the interface.
fn peer_deleted() -> Outcome {
    let ours = same(&script(
        r#"mkdir /etc/krun-gpu; trap 'rm -r /etc/krun-gpu' EXIT
        for vhost in true false; do
            echo "vhost_net = $vhost" >/etc/krun-gpu/config.toml
            podman run -d --runtime $RUNTIME $tools --name c $BB /usr/bin/socat -u TCP-LISTEN:7000 OPEN:/received,creat >/dev/null
            ip=$(podman inspect c --format '{{.NetworkSettings.IPAddress}}')
            timeout 60 socat -u OPEN:/dev/zero TCP:$ip:7000,retry=200,interval=0.1 2>/dev/null & sender=$!
            flows() { podman exec c test -s /received; }
            patiently flows
            ip link del $(ip -o link show master podman0 | awk -F '[ :@]+' '{ print $2; exit }')
            gone() { [ "$(podman exec c ls /sys/class/net)" = lo ]; }
            patiently gone; podman inspect c --format '{{.State.Status}}'
            podman exec c echo lives; kill $sender; wait $sender
            podman rm -f -t 0 c >/dev/null 2>&1; podman ps -aq
        done"#,
    ))?;
    ensure(ours.stdout == "running\nlives\n".repeat(2), || {
        ours.to_string()
    })
}

/// Without /dev/net/tun, and with something else in its place, `start` fails and names it.
fn no_tap() -> Outcome {
    let ours = sh(
        r#"attempt() { podman run --rm --runtime $RUNTIME $BB true; echo $?; }
        mv /dev/net/tun /dev/net/kept; trap 'mv /dev/net/kept /dev/net/tun' EXIT
        attempt
        cp -a /dev/null /dev/net/tun; attempt; rm /dev/net/tun
        run $BB echo no link is needed"#,
    )?;
    ensure(
        ours.stdout == "126\n126\nno link is needed\n"
            && ours
                .stderr
                .matches("make a tap with /dev/net/tun for network interface `eth0`")
                .count()
                == 2,
        || ours.to_string(),
    )
}
