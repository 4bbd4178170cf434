//! Networks: a container in a VM is on Podman's networks as it is under crun.

use libtest_mimic::Failed;

use crate::harness::bundle::Bundle;
use crate::harness::command::{sh_as_user, sh_with};
use crate::harness::{Case, Outcome, Output, ensure, images, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "network::default_bridge",
        run: default_bridge,
    },
    Case {
        name: "network::none",
        run: none,
    },
    Case {
        name: "network::names_between_containers",
        run: names_between_containers,
    },
    Case {
        name: "network::published_ports",
        run: published_ports,
    },
    Case {
        name: "network::two_networks",
        run: two_networks,
    },
    Case {
        name: "network::parameters",
        run: parameters,
    },
    Case {
        name: "network::bulk",
        run: bulk,
    },
    Case {
        name: "network::connections",
        run: connections,
    },
    Case {
        name: "network::path_mtu",
        run: path_mtu,
    },
    Case {
        name: "network::rootless",
        run: rootless,
    },
    Case {
        name: "network::rootless_bridge_and_slirp",
        run: rootless_bridge_and_slirp,
    },
    Case {
        name: "network::macvlan",
        run: macvlan,
    },
    Case {
        name: "network::made_after_create",
        run: made_after_create,
    },
    Case {
        name: "network::namespace_stays_as_it_was",
        run: namespace_stays_as_it_was,
    },
    Case {
        name: "network::shared_with_others",
        run: shared_with_others,
    },
    Case {
        name: "network::host_network",
        run: host_network,
    },
    Case {
        name: "network::pod_of_two",
        run: pod_of_two,
    },
    Case {
        name: "network::passt_fails",
        run: passt_fails,
    },
    Case {
        name: "network::pod",
        run: pod,
    },
    Case {
        name: "network::changed_while_it_runs",
        run: changed_while_it_runs,
    },
];

/// Shell functions of these cases.
const PRELUDE: &str = r#"
# Runs a command until it succeeds.
patiently() { for i in $(seq 300); do "$@" 2>/dev/null && return; sleep 0.1; done; echo "never: $*"; }
# An interface as `ip` shows it, without what a veth and a NIC differ in.
look='for dev in $(ls /sys/class/net | grep -v -e ^lo -e ^sit -e ^tunl); do
    echo $dev $(cat /sys/class/net/$dev/address /sys/class/net/$dev/mtu)
    ip -o addr show dev $dev | awk "{print \$2, \$3, \$4, \$5, \$6}"; done
    ip route | sed "s/ *src.*//" | sort -u; ip -6 route | grep -v -e fe80 -e ff00 -e multicast | cut -d" " -f1-5'
# The host's own programs in a container.
tools="-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro"
"#;

fn script(text: &str) -> String {
    format!("{PRELUDE}{text}")
}

/// Addresses, routes, MTU and names agree with crun's, and the gateway answers.
fn default_bridge() -> Outcome {
    let ours = same(&script(
        r#"podman run --rm --runtime $RUNTIME --cap-add NET_RAW --ip 10.88.77.5 --mac-address 02:11:22:33:44:55 --name bridged --hostname bridged $BB sh -c "
            $look; grep bridged /etc/hosts | cut -f1; ping -c 1 -W 10 10.88.0.1 | grep -o '1 packets received'"
        podman run -d --runtime $RUNTIME --name c $BB sleep 1000 >/dev/null
        test $(podman inspect c --format '{{.NetworkSettings.IPAddress}}') = \
            $(podman exec c ip -o -4 addr show dev eth0 | sed 's/.*inet \([^/]*\).*/\1/') && echo same
        ping -c 1 -W 10 $(podman inspect c --format '{{.NetworkSettings.IPAddress}}') | grep -o '1 received'
        podman rm -f -t 0 c >/dev/null"#,
    ))?;
    ensure(
        ours.stdout.contains("10.88.77.5/16")
            && ours.stdout.contains("1 packets received")
            && ours.stdout.contains("same\n1 received"),
        || ours.to_string(),
    )
}

fn none() -> Outcome {
    let ours = same("run $BB sh -c 'ls /sys/class/net; ip -o addr; ip route' | cut -d' ' -f1-4")?;
    ensure(ours.stderr.is_empty(), || ours.to_string())
}

/// aardvark-dns finds a container in a VM, and is found by it; so it goes with one under crun.
fn names_between_containers() -> Outcome {
    let script = script(
        r#"podman network create n1 >/dev/null
        serve='mkdir /w; hostname >/w/name; httpd -f -p 80 -h /w'
        podman run -d --runtime $RUNTIME --network n1 --network-alias other --name server --hostname server $BB sh -c "$serve" >/dev/null
        podman run -d --runtime crun --network n1 --name peer --hostname peer $BB sh -c "$serve" >/dev/null
        for runtime in $RUNTIME crun; do
            podman run --rm --runtime $runtime --cap-add NET_RAW --network n1 $BB sh -c '
                for name in server other peer; do
                    for i in $(seq 100); do wget -q -O /n http://$name/name 2>/dev/null && break; sleep 0.1; done; cat /n
                    ping -c 1 -W 10 $name | grep -o "1 packets received"
                done; grep -c ^nameserver /etc/resolv.conf'
        done
        podman rm -f -t 0 server peer >/dev/null; podman network rm n1 >/dev/null"#,
    );
    let ours = same(&script)?;
    ensure(
        ours.stdout.matches("1 packets received").count() == 6,
        || ours.to_string(),
    )
}

fn published_ports() -> Outcome {
    let ours = same(&script(
        r#"podman run -d --runtime $RUNTIME $tools -p 8080:80 -p 127.0.0.1:8081:80 -p 81:80 -p 5353:53/udp --name server $BB sh -c '
            mkdir /w; echo served >/w/page; httpd -p 80 -h /w; exec /usr/bin/socat UDP-RECVFROM:53,fork EXEC:/bin/cat' >/dev/null
        own=$(ip -4 -o addr show podman0 | sed 's/.*inet \([^/]*\).*/\1/')
        for url in 127.0.0.1:8080 127.0.0.1:8081 127.0.0.1:81 $own:8080; do patiently busybox wget -q -O- http://$url/page; done
        busybox wget -T 5 -q -O- http://$own:8081/page >/dev/null 2>&1 || echo loopback only
        answer() { [ "$(echo ping | timeout 5 socat -t 2 - UDP:127.0.0.1:5353)" = ping ] && echo udp; }
        patiently answer
        podman run --rm --runtime $RUNTIME $BB wget -q -O- http://$own:8080/page
        podman rm -f -t 0 server >/dev/null"#,
    ))?;
    ensure(
        ours.stdout.matches("served").count() == 5 && ours.stdout.contains("udp"),
        || ours.to_string(),
    )
}

fn two_networks() -> Outcome {
    let ours = same(&script(
        r#"podman network create --subnet 10.91.0.0/24 --ipv6 --subnet fd91::/64 n1 >/dev/null
        podman network create --subnet 10.92.0.0/24 --opt mtu=1400 n2 >/dev/null
        podman run --rm --runtime $RUNTIME --cap-add NET_RAW --network n1:ip=10.91.0.9,ip6=fd91::9,mac=02:00:00:00:91:09 \
            --network n2:ip=10.92.0.9,mac=02:00:00:00:92:09,interface_name=second --dns 192.0.2.53 $BB sh -c "
            $look; grep nameserver /etc/resolv.conf | sort
            for gateway in 10.91.0.1 10.92.0.1; do ping -c 1 -W 10 \$gateway | grep -o '1 packets received'; done
            ping -6 -c 1 -W 10 fd91::1 | grep -o '1 packets received'"
        podman network rm n1 n2 >/dev/null"#,
    ))?;
    ensure(
        ours.stdout.contains("second 02:00:00:00:92:09 1400")
            && ours.stdout.matches("1 packets received").count() == 3,
        || ours.to_string(),
    )
}

fn parameters() -> Outcome {
    let ours = same(&script(
        r#"podman run --rm --runtime $RUNTIME --sysctl net.ipv4.conf.eth0.rp_filter=2 --sysctl net.ipv4.ip_local_port_range='4000 5000' \
            --sysctl net.ipv6.conf.all.disable_ipv6=1 $BB sh -c '
            cat /proc/sys/net/ipv4/conf/eth0/rp_filter /proc/sys/net/ipv4/ip_local_port_range; ip -6 -o addr | wc -l'"#,
    ))?;
    ensure(ours.stdout == "2\n4000\t5000\n0\n", || ours.to_string())
}

/// 64 MiB each way arrive as they were, and the VMM does not grow by them.
fn bulk() -> Outcome {
    let ours = sh(&script(
        r#"head -c 67108864 /dev/urandom >/tmp/bulk; sum=$(md5sum </tmp/bulk)
        podman run -d --runtime $RUNTIME --name c $BB sh -c 'mkdir /w; echo ready >/w/page; httpd -f -p 80 -h /w' >/dev/null
        ip=$(podman inspect c --format '{{.NetworkSettings.IPAddress}}'); pid=$(podman inspect c --format '{{.State.Pid}}')
        patiently busybox wget -q -O- http://$ip/page
        busybox httpd -f -p 8099 -h /tmp & server=$!
        files() { ls /proc/$pid/fd | wc -l; }
        before=$(files)
        podman exec c sh -c 'wget -q -O /w/bulk http://10.88.0.1:8099/bulk; md5sum </w/bulk' | grep -qF "$sum" && echo received
        busybox wget -q -O- http://$ip/bulk | md5sum | grep -qF "$sum" && echo sent
        [ $(files) -le $((before + 4)) ] && echo no descriptors lost
        kill $server; rm /tmp/bulk; podman rm -f -t 0 c >/dev/null"#,
    ))?;
    ensure(
        ours.stdout == "ready\nreceived\nsent\nno descriptors lost\n",
        || ours.to_string(),
    )
}

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

/// Runs `text` for the ordinary user, on a host that has an address of its own.
fn as_user(runtime: &str, text: &str) -> Result<Output, Failed> {
    images::busybox_of_user()?;
    let made = sh_with(
        runtime,
        "ip link add dummy0 type dummy && ip addr add 192.0.2.10/24 dev dummy0 && ip link set dummy0 up && ip route add default via 192.0.2.1 dev dummy0",
    )?;
    let outcome = sh_as_user(runtime, &script(text));
    let removed = sh_with(runtime, "ip link del dummy0")?;
    ensure(made.status == 0 && removed.status == 0, || {
        format!("{made}\n{removed}")
    })?;
    outcome
}

/// pasta's network: its address, the way out, and published ports on loopback and elsewhere.
fn rootless() -> Outcome {
    // The kernel chooses pasta's address on the link; the route is the guest's way to the forwarder.
    let text = r#"same='grep -v -e fe80 -e 169.254.77.1 | sed -e "s/ [0-9a-f][0-9a-f]:[0-9a-f:]*/ MAC/" -e "s/ *\$//" | sort -u'
        podman run -d --runtime $RUNTIME -p 8080:80 --name c $BB sh -c "mkdir /w; ($look) | $same >/w/page; httpd -f -p 80 -h /w" >/dev/null
        patiently busybox wget -q -O- http://127.0.0.1:8080/page
        busybox wget -T 10 -q -O- http://192.0.2.10:8080/page | head -n 1
        mkdir /tmp/out; echo outside >/tmp/out/page; busybox httpd -f -p 8097 -h /tmp/out & server=$!
        podman exec c sh -c 'wget -T 10 -q -O- http://host.containers.internal:8097/page'
        kill $server; rm -r /tmp/out; podman rm -f -t 0 c >/dev/null"#;
    let crun = as_user("crun", text)?;
    let ours = as_user("krun-gpu", text)?;
    ensure(
        crun.stdout == ours.stdout
            && ours.stdout.contains("192.0.2.10")
            && ours.stdout.ends_with("outside\n"),
        || format!("--- crun: {crun}\n--- krun-gpu: {ours}"),
    )
}

/// Podman's own port forwarder, inside the container's network namespace.
fn rootless_bridge_and_slirp() -> Outcome {
    let text = r#"podman network create n1 >/dev/null
        serve='mkdir /w; echo served >/w/page; httpd -f -p 80 -h /w'
        for network in n1 slirp4netns; do
            podman run -d --runtime $RUNTIME --network $network -p 8080:80 --name c $BB sh -c "$serve" >/dev/null
            patiently busybox wget -q -O- http://127.0.0.1:8080/page
            [ $network = n1 ] && podman run --rm --runtime $RUNTIME --network n1 $BB wget -q -O- http://c/page
            podman rm -f -t 0 c >/dev/null
        done; podman network rm n1 >/dev/null"#;
    let ours = as_user("krun-gpu", text)?;
    ensure(ours.stdout == "served\nserved\nserved\n", || {
        ours.to_string()
    })
}

fn macvlan() -> Outcome {
    let ours = same(&script(
        r#"ip link add dummy1 type dummy; ip link set dummy1 up
        podman network create -d macvlan -o parent=dummy1 --subnet 10.93.0.0/24 m1 >/dev/null
        podman run -d --runtime $RUNTIME --network m1 --ip 10.93.0.2 --name c $BB sleep 1000 >/dev/null
        podman run --rm --runtime $RUNTIME --cap-add NET_RAW --network m1:ip=10.93.0.3,mac=02:00:00:00:93:03 $BB sh -c "
            $look; ping -c 1 -W 10 10.93.0.2 | grep -o '1 packets received'"
        podman rm -f -t 0 c >/dev/null; podman network rm m1 >/dev/null; ip link del dummy1"#,
    ))?;
    ensure(ours.stdout.ends_with("1 packets received\n"), || {
        ours.to_string()
    })
}

/// A build's network is set up between `create` and `start`.
fn made_after_create() -> Outcome {
    let ours = same(&script(
        r#"dir=$(mktemp -d)
        printf 'FROM localhost/busybox\nRUN ip -o -4 addr show dev eth0 | wc -l; ip route | cut -d" " -f1-3\n' >$dir/Containerfile
        podman build --no-cache --runtime $(command -v $RUNTIME) --isolation oci $dir 2>/dev/null | grep -e '^1$' -e '^default'
        rm -r $dir"#,
    ))?;
    ensure(ours.stdout == "1\ndefault via 10.88.0.1\n", || {
        ours.to_string()
    })
}

/// A network namespace that outlives its container has no filter, tap or changed address left.
fn namespace_stays_as_it_was() -> Outcome {
    let bundle = Bundle::new(&["cat", "/proc/net/route"])?;
    bundle.edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        for namespace in namespaces.into_iter().flatten() {
            if namespace["type"] == "network" {
                namespace["path"] = "/run/netns/krun-test".into();
            }
        }
    })?;
    let ours = bundle.sh(
        "krun-gpu",
        r#"ip netns add krun-test; inside="ip netns exec krun-test"
        ip link add krun-outside type veth peer name eth7 netns krun-test
        ip link set krun-outside up; $inside ip addr add 10.99.0.2/24 dev eth7; $inside ip link set eth7 up
        state() { $inside ip -o link | cut -d: -f2; $inside ip -o -4 addr; $inside tc qdisc show; $inside tc filter show dev eth7 ingress; }
        state >before
        for i in 1 2; do $RUNTIME run again | grep -c ^eth7; done
        state >after; diff before after && echo clean
        ip netns del krun-test"#,
    )?;
    ensure(ours.stdout == "1\n1\nclean\n", || ours.to_string())
}

/// The host's network: its addresses, its neighbours, and the ports that were asked for.
fn host_network() -> Outcome {
    let ours = same(&script(
        r#"podman run -d --runtime crun --name peer $BB sh -c 'mkdir /w; echo peer >/w/page; httpd -f -p 80 -h /w' >/dev/null
        ip=$(podman inspect peer --format '{{.NetworkSettings.IPAddress}}')
        podman run -d --runtime $RUNTIME --network host --annotation io.krun-gpu.ports=8095,8096/udp $tools --name c $BB sh -c '
            mkdir /w; echo served >/w/page; httpd -p 8095 -h /w; exec /usr/bin/socat UDP-RECVFROM:8096,fork EXEC:/bin/cat' >/dev/null
        patiently busybox wget -q -O- http://127.0.0.1:8095/page
        patiently busybox wget -q -O- http://10.88.0.1:8095/page
        answer() { [ "$(echo ping | timeout 5 socat -t 2 - UDP:127.0.0.1:8096)" = ping ] && echo udp; }
        patiently answer
        podman exec c sh -c "for i in \$(seq 50); do wget -T 10 -q -O- http://$ip/page && break; done; ip -o -4 addr show dev podman0 | awk '{print \$2, \$4}'"
        podman rm -f -t 0 c peer >/dev/null; pgrep passt || echo none left"#,
    ))?;
    ensure(
        ours.stdout
            .starts_with("served\nserved\nudp\npeer\npodman0 10.88.0.1/16\n"),
        || ours.to_string(),
    )
}

/// Another container's network: localhost both ways, its published ports, and it keeps all it had.
fn shared_with_others() -> Outcome {
    let ours = same(&script(
        r#"podman run -d --runtime crun --cap-add NET_RAW -p 8085:8002 --name other $BB sh -c 'mkdir /w; echo other >/w/page; httpd -f -p 127.0.0.1:8001 -h /w' >/dev/null
        podman run -d --runtime $RUNTIME --network container:other --annotation io.krun-gpu.ports=8002 --name c $BB sh -c '
            mkdir /w; echo served >/w/page; httpd -f -p 8002 -h /w' >/dev/null
        patiently busybox wget -q -O- http://127.0.0.1:8085/page
        podman exec other wget -T 10 -q -O- http://127.0.0.1:8002/page
        # The namespace's localhost has another address in a VM.
        localhost=127.0.0.1; [ $RUNTIME = crun ] || localhost=169.254.77.2
        podman exec c wget -T 10 -q -O- http://$localhost:8001/page
        podman exec c ip -o -4 addr show dev eth0 | awk '{print $2, $4}' | sed 's/[0-9]*\/16/N\/16/'
        podman exec c ip route | grep -v 169.254.77 | cut -d' ' -f1-5
        podman exec other ping -c 1 -W 10 10.88.0.1 | grep -o '1 packets received'
        podman rm -f -t 0 c >/dev/null; podman rm -f -t 0 other >/dev/null; pgrep passt || echo none left"#,
    ))?;
    ensure(
        ours.stdout
            .starts_with("served\nserved\nother\neth0 10.88.")
            && ours.stdout.ends_with("1 packets received\nnone left\n"),
        || ours.to_string(),
    )
}

/// Two VMs in a pod: its published ports, and each reaches the other through the pod's localhost.
fn pod_of_two() -> Outcome {
    let ours = sh(&script(
        r#"podman --runtime crun pod create --name p -p 8082:80 -p 8083:81 >/dev/null
        for port in 80 81; do
            podman run -d --runtime $RUNTIME --pod p --annotation io.krun-gpu.ports=$port --name c$port $BB sh -c "
                mkdir /w; echo at $port >/w/page; httpd -f -p $port -h /w" >/dev/null
        done
        for port in 8082 8083; do patiently busybox wget -q -O- http://127.0.0.1:$port/page; done
        podman exec c80 wget -T 10 -q -O- http://169.254.77.2:81/page
        podman exec c81 wget -T 10 -q -O- http://169.254.77.2:80/page
        podman pod rm -f -t 0 p >/dev/null; pgrep passt || echo none left"#,
    ))?;
    ensure(
        ours.stdout == "at 80\nat 81\nat 81\nat 80\nnone left\n",
        || ours.to_string(),
    )
}

/// passt killed, missing, and a port that a neighbour has.
fn passt_fails() -> Outcome {
    let ours = sh(&script(
        r#"id=$(podman run -d --runtime $RUNTIME --network host --name c $BB sleep 1000)
        pid=$(pgrep passt); grep -q $id /proc/$pid/cgroup && echo in its cgroup
        kill -9 $pid; patiently sh -c 'podman logs c 2>&1 | grep -o "passt, which is the container.s network, is gone"'
        podman exec c echo it lives; podman rm -f -t 0 c >/dev/null
        busybox httpd -f -p 8094 -h /tmp & server=$!
        listens() { ss -ltn | grep -q :8094; }
        patiently listens
        podman run --rm --runtime $RUNTIME --network host --annotation io.krun-gpu.ports=8094 $BB true 2>&1 | grep -o 'passt.*bind port 8094 (Address already in use)'
        kill $server
        podman run --rm --runtime $RUNTIME --network host --annotation io.krun-gpu.ports=http $BB true 2>&1 | grep -o 'ports=`http`: its value must be a list of ports'
        mount --bind /dev/null /usr/bin/passt
        podman run --rm --runtime $RUNTIME --network host $BB true 2>&1 | grep -o 'install passt'
        umount /usr/bin/passt
        podman ps -aq; pgrep passt || echo none left"#,
    ))?;
    ensure(
        ours.stdout
            == "in its cgroup\npasst, which is the container's network, is gone\nit lives\n\
                passt for the container's network: Failed to bind port 8094 (Address already in use)\n\
                ports=`http`: its value must be a list of ports\ninstall passt\nnone left\n",
        || ours.to_string(),
    )
}

/// The first container of a pod in a VM has the pod's network, the second says that it has none;
/// whichever runtime the pod's placeholder has.
fn pod() -> Outcome {
    let ours = sh(&script(
        r#"for runtime in crun $RUNTIME; do
            podman --runtime $runtime pod create --name p -p 8082:80 >/dev/null
            podman run -d --runtime $RUNTIME --pod p --name first $BB sh -c 'mkdir /w; echo served >/w/page; httpd -f -p 80 -h /w' >/dev/null
            patiently busybox wget -q -O- http://127.0.0.1:8082/page
            podman run --rm --runtime $RUNTIME --pod p $BB ls /sys/class/net
            podman pod rm -f -t 0 p >/dev/null
        done"#,
    ))?;
    ensure(
        ours.stdout == "served\nlo\nserved\nlo\n"
            && ours.stderr.matches("another container's VM").count() == 2,
        || ours.to_string(),
    )
}

fn changed_while_it_runs() -> Outcome {
    let ours = sh(&script(
        r#"podman network create n1 >/dev/null
        podman run -d --runtime $RUNTIME --name c $BB sleep 1000 >/dev/null
        podman network connect n1 c
        patiently sh -c 'podman logs c 2>&1 | grep -o "interface .eth1. came after the start"'
        podman network disconnect n1 c
        patiently sh -c 'podman logs c 2>&1 | grep -o "interface .eth1. was taken away"'
        podman exec c ls /sys/class/net
        podman rm -f -t 0 c >/dev/null; podman network rm n1 >/dev/null"#,
    ))?;
    ensure(
        ours.stdout
            == "interface `eth1` came after the start\ninterface `eth1` was taken away\neth0\nlo\n",
        || ours.to_string(),
    )
}
