//! Networks that others use too: the host's, another container's, a pod's.

use super::script;
use crate::harness::{Case, Outcome, ensure, same, sh};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "network::shared_with_others",
        run: shared_with_others,
    },
    Case {
        name: "network::host_network",
        run: host_network,
    },
    Case {
        name: "network::host_network_ipv6",
        run: host_network_ipv6,
    },
    Case {
        name: "network::host_has_loopback_alone",
        run: host_has_loopback_alone,
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
];

/// IPv6 through passt: a neighbour of the host's is reached, and so is a server in the guest.
fn host_network_ipv6() -> Outcome {
    let ours = same(&script(
        r#"ip link add dummy1 type dummy; ip addr add 192.0.2.20/24 dev dummy1; ip addr add fd96::20/64 dev dummy1 nodad
        ip link set dummy1 up; ip route add default via 192.0.2.1 dev dummy1
        serve='mkdir /w; echo at $0 >/w/page; httpd -f -p [::]:$0 -h /w'
        podman network create --subnet 10.95.0.0/24 --ipv6 --subnet fd95::/64 n6 >/dev/null
        podman run -d --runtime crun --network n6 --ip6 fd95::9 --name peer $BB sh -c "$serve" 80 >/dev/null
        podman run -d --runtime $RUNTIME --network host --annotation io.krun-gpu.ports=8095 --name c $BB sh -c "$serve" 8095 >/dev/null
        patiently busybox wget -q -O- http://[fd96::20]:8095/page
        podman exec c sh -c 'for i in $(seq 50); do wget -T 10 -q -O- http://[fd95::9]/page && break; sleep 0.2; done; ip -o -6 addr show dev dummy1 scope global | grep -o fd96::20/64'
        podman rm -f -t 0 c peer >/dev/null; podman network rm n6 >/dev/null; ip link del dummy1"#,
    ))?;
    ensure(ours.stdout == "at 8095\nat 80\nfd96::20/64\n", || {
        ours.to_string()
    })
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

/// A host without a network: what listens in the guest is on the host's loopback, and what listens
/// there is reached.
fn host_has_loopback_alone() -> Outcome {
    let ours = same(&script(
        r#"export BB; unshare -n sh -c '
            ip link set lo up
            mkdir /tmp/alone; echo on the host >/tmp/alone/page; busybox httpd -f -p 8097 -h /tmp/alone & server=$!
            podman run -d --runtime $RUNTIME --network host --annotation io.krun-gpu.ports=8095 --name c $BB sh -c "mkdir /w; echo served >/w/page; httpd -f -p 8095 -h /w" >/dev/null
            for i in $(seq 50); do timeout 10 busybox wget -q -O- http://127.0.0.1:8095/page 2>/dev/null && break; sleep 0.2; done
            localhost=127.0.0.1; [ $RUNTIME = crun ] || localhost=169.254.77.2
            podman exec c wget -T 10 -q -O- http://$localhost:8097/page
            ip -o link | wc -l
            podman rm -f -t 0 c >/dev/null; kill $server; rm -r /tmp/alone'; pgrep passt || echo none left"#,
    ))?;
    ensure(ours.stdout == "served\non the host\n1\nnone left\n", || {
        ours.to_string()
    })
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
