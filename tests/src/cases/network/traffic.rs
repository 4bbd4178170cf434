//! Many connections at a time, several pairs of queues, a smaller path.

use super::script;
use crate::harness::{Case, Outcome, ensure, same, sh};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "network::connections",
        run: connections,
    },
    Case {
        name: "network::pairs_of_queues",
        run: pairs_of_queues,
    },
    Case {
        name: "network::path_mtu",
        run: path_mtu,
    },
];

/// 200 connections at a time, each closed in one direction before the answer, and 200 short ones.
fn connections() -> Outcome {
    let ours = same(&script(
        r#"serve='import hashlib,socket,threading
def one(c):
    with c:
        h=hashlib.md5()
        while b:=c.recv(65536): h.update(b)
        c.sendall(h.digest())
s=socket.create_server(("",7000),backlog=512)
while True: threading.Thread(target=one,args=(s.accept()[0],),daemon=True).start()'
        podman run -d --runtime $RUNTIME $tools --name c $BB /usr/bin/python3 -c "$serve" >/dev/null
        ip=$(podman inspect c --format '{{.NetworkSettings.IPAddress}}'); pid=$(podman inspect c --format '{{.State.Pid}}')
        patiently socat -u OPEN:/dev/null TCP:$ip:7000
        files() { ls /proc/$pid/fd | wc -l; }
        before=$(files)
        timeout 120 python3 - $ip <<'EOF'
import hashlib, os, socket, sys
def connect(): return socket.create_connection((sys.argv[1], 7000), 60)
def answer(c):
    c.shutdown(socket.SHUT_WR)
    with c: return c.recv(16, socket.MSG_WAITALL)
data = os.urandom(65536)
many = [connect() for _ in range(200)]
for c in many: c.sendall(data)
print(sum(answer(c) == hashlib.md5(data).digest() for c in many), "at a time")
print(sum(answer(connect()) == hashlib.md5().digest() for _ in range(200)), "short ones")
EOF
        few() { [ $(files) -le $((before + 4)) ]; }
        patiently few && echo no descriptors lost
        podman rm -f -t 0 c >/dev/null"#,
    ))?;
    ensure(
        ours.stdout == "200 at a time\n200 short ones\nno descriptors lost\n",
        || ours.to_string(),
    )
}

/// With two vCPUs a NIC has two pairs of queues, whoever moves frames, and one that comes later,
/// too; eight streams each way arrive as they were, and both pairs have work.
fn pairs_of_queues() -> Outcome {
    let ours = sh(&script(
        r#"serve='import hashlib,socket,threading
def one(c):
    with c:
        h=hashlib.md5(); b=c.recv(1<<20,socket.MSG_WAITALL); h.update(b); c.sendall(h.digest()); c.sendall(b)
s=socket.create_server(("",7000),backlog=512)
while True: threading.Thread(target=one,args=(s.accept()[0],),daemon=True).start()'
        podman network create --subnet 10.95.0.0/24 n1 >/dev/null
        mkdir /etc/krun-gpu; trap 'rm -r /etc/krun-gpu' EXIT
        for vhost in true false; do
            echo "vhost_net = $vhost" >/etc/krun-gpu/config.toml
            podman run -d --runtime $RUNTIME --annotation io.krun-gpu.cpus=2 $tools --name c $BB /usr/bin/python3 -c "$serve" >/dev/null
            ip=$(podman inspect c --format '{{.NetworkSettings.Networks.podman.IPAddress}}'); pid=$(podman inspect c --format '{{.State.Pid}}')
            patiently socat -u OPEN:/dev/null TCP:$ip:7000
            podman exec c sh -c 'echo $(ls /sys/class/net/eth0/queues)'
            timeout 120 python3 - $ip <<'EOF'
import hashlib, os, socket, sys, threading
def one():
    data = os.urandom(1 << 20)
    with socket.create_connection((sys.argv[1], 7000)) as c:
        c.sendall(data)
        right.append(c.recv(16, socket.MSG_WAITALL) == hashlib.md5(data).digest() and c.recv(1 << 20, socket.MSG_WAITALL) == data)
right = []
threads = [threading.Thread(target=one) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(sum(right), "streams")
EOF
            # The movers' threads that have been woken.
            for task in /proc/$pid/task/*; do
                grep -q -x -e 'vhost-.*' -e net $task/comm && awk '/^voluntary/ && $2 > 20 { print "busy" }' $task/status
            done
            podman network connect n1 c
            podman exec c sh -c 'for i in $(seq 100); do [ -e /sys/class/net/eth1/queues/rx-1 ] && echo later && break; sleep 0.2; done'
            podman rm -f -t 0 c >/dev/null
        done
        podman network rm n1 >/dev/null"#,
    ))?;
    let one = "rx-0 rx-1 tx-0 tx-1\n8 streams\nbusy\nbusy\nlater\n";
    ensure(ours.stdout == one.repeat(2), || ours.to_string())
}

/// A router with a smaller MTU behind the host: its word reaches the container's kernel.
fn path_mtu() -> Outcome {
    let ours = same(&script(
        r#"ip netns add far; ip link add krun-far type veth peer name eth0 netns far; inside="ip netns exec far"
        ip addr add 10.78.0.1/24 dev krun-far; ip link set krun-far mtu 1300 up
        $inside ip addr add 10.78.0.2/24 dev eth0; $inside ip link set eth0 up; $inside ip route add default via 10.78.0.1
        $inside busybox nc -l -p 7000 </dev/null >/tmp/far & far=$!
        listens() { $inside ss -ltn | grep -q :7000; }
        patiently listens
        podman run --rm --runtime $RUNTIME $tools $BB sh -c '
            head -c 1000000 /dev/zero | /usr/bin/timeout 60 /usr/bin/socat -u - TCP:10.78.0.2:7000; ip route get 10.78.0.2 | grep -o "mtu 1300"'
        wait $far; wc -c </tmp/far; rm /tmp/far; ip netns del far"#,
    ))?;
    ensure(ours.stdout == "mtu 1300\n1000000\n", || ours.to_string())
}
