//! Bridges and other networks of an engine of root's: addresses, names, ports and parameters.

use super::script;
use crate::harness::bundle::Bundle;
use crate::harness::{Case, Outcome, ensure, same, sh};

pub(in crate::cases) const CASES: &[Case] = &[
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
        name: "network::nine_networks",
        run: nine_networks,
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
];

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

/// A VM has places for eight interfaces.
fn nine_networks() -> Outcome {
    let ours = sh(
        r#"networks=$(for n in $(seq 9); do echo net$n; podman network create --subnet 10.96.$n.0/24 net$n >/dev/null; done)
        podman run --rm --runtime $RUNTIME $(printf -- '--network %s ' $networks) $BB true; echo $?
        podman network rm $networks >/dev/null"#,
    )?;
    ensure(
        ours.stdout == "126\n"
            && ours
                .stderr
                .contains("has 9 network interfaces beside loopback"),
        || ours.to_string(),
    )
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
