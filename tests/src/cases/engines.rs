//! Other engines than the tree's Podman, each with a store of its own in the test VM.
//!
//! Docker is spoken to over its API: its client is a package of its own, and adds nothing here.

use crate::harness::{Case, Outcome, ensure, images, same};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "engines::containerd",
        run: containerd,
    },
    Case {
        name: "engines::docker",
        run: docker,
    },
    Case {
        name: "engines::podman_4_3",
        run: podman_4_3,
    },
];

/// Containers' stores are in memory; `d` is in the one of Podman's that is.
const DIRECTORY: &str = r#"
d=/var/lib/containers/engine; mkdir -p $d
podman save -q --format oci-archive localhost/busybox >$d/image.tar
podman create --name export localhost/busybox true >/dev/null; podman export export >$d/root.tar; podman rm export >/dev/null
engine=
finish() {
    kill $engine; wait $engine
    pkill -f "containerd-shim.*$d"
    cut -d' ' -f5 /proc/self/mountinfo | grep "^$d" | sort -r | while read mount; do umount -l "$mount"; done
    rm -rf $d
    # The engines' own, above their containers'.
    rmdir /sys/fs/cgroup/default /sys/fs/cgroup/docker
}
trap 'finish >/dev/null 2>&1' EXIT
wait_for() { for i in $(seq 60); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done; echo "$*: in vain"; tail -n 20 $d/log; exit 1; }
"#;

const CONTAINERD: &str = r#"
printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\n[grpc]\naddress="%s/socket"\n[ttrpc]\naddress="%s/ttrpc"\n' $d $d $d $d >$d/config.toml
containerd --config $d/config.toml >$d/log 2>&1 & engine=$!
c() { timeout 100 ctr -a $d/socket "$@"; }
wait_for c version
c image import $d/image.tar >/dev/null
binary="--runc-binary $(command -v $RUNTIME)"
image=localhost/busybox:latest
c run --rm $binary $image one sh -c 'echo out; echo err >&2; exit 6'; echo $?
c run -d $binary $image two sleep 1000
state() { c task ls | awk '$1 == "two" {print $3}'; }
running() { [ "$(state)" = RUNNING ]; }
wait_for running
c task exec --exec-id e two sh -c 'echo in exec; exit 3'; echo $?
c task pause two; state; c task resume two; state
c task metrics two | grep -c -E '^(pids.current|memory.usage) .*[1-9]'
c task kill -s KILL two; stopped() { [ "$(state)" = STOPPED ]; }; wait_for stopped
c task rm two 2>/dev/null; c container rm two; c task ls | wc -l
"#;

fn containerd() -> Outcome {
    let ours = same(&format!("{DIRECTORY}{CONTAINERD}"))?;
    let expected = "out\n6\nin exec\n3\nPAUSED\nRUNNING\n2\n1\n";
    ensure(ours.stdout == expected, || ours.to_string())
}

const DOCKER: &str = r#"
dockerd --data-root $d/root --exec-root $d/exec --host unix://$d/socket --pidfile $d/pid --iptables=false \
    --ip6tables=false --bridge=none --add-runtime under-test=$(command -v $RUNTIME) >$d/log 2>&1 & engine=$!
# METHOD PATH [FILE]: the answer's body.
api() {
    file=${3:-/dev/null}
    { printf '%s %s HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n' "$1" "$2" $(stat -Lc %s $file); cat $file
    } | socat -t 100 - UNIX-CONNECT:$d/socket,shut-none | sed '1,/^\r$/d'
}
ask() { printf %s "$3" >$d/body; api "$1" "$2" $d/body; }
# What a container printed, without the header of each piece.
text() { tr -cd '[:print:]\n' | grep -o '[a-z][a-z ]*$'; }
up() { api GET /version | grep -q ApiVersion; }
wait_for up
api POST '/images/create?fromSrc=-&repo=bb' $d/root.tar >/dev/null
create() { ask POST "/containers/create?name=$1" "{\"Image\":\"bb\",\"Cmd\":[\"sh\",\"-c\",\"$2\"],\"HostConfig\":{\"Runtime\":\"under-test\",\"NetworkMode\":\"none\",\"Memory\":209715200}}" | jq -r .message; api POST /containers/$1/start | jq -r .message; }
create one 'echo out; exit 5'; api POST /containers/one/wait | jq -c .StatusCode
api GET '/containers/one/logs?stdout=1' | text; api DELETE /containers/one
create two 'trap \"exit 7\" TERM; echo ready; while :; do sleep 0.1; done'
ready() { api GET '/containers/two/logs?stdout=1' | grep -q ready; }
wait_for ready
id=$(ask POST /containers/two/exec '{"AttachStdout":true,"Cmd":["sh","-c","echo in exec; exit 3"]}' | jq -r .Id)
ask POST /exec/$id/start '{"Detach":false}' | text; api GET /exec/$id/json | jq .ExitCode
api POST /containers/two/pause; api GET /containers/two/json | jq -r .State.Status; api POST /containers/two/unpause
api POST '/containers/two/stop?t=60'; api GET /containers/two/json | jq -c '[.State.Status, .State.ExitCode]'
api DELETE /containers/two; api GET '/containers/json?all=1'
ask POST /containers/create?name=three '{"Image":"bb","Cmd":["no-such"],"HostConfig":{"Runtime":"under-test","NetworkMode":"none"}}' >/dev/null
api POST /containers/three/start | grep -o 'no-such.*not found in \$PATH'; api GET /containers/three/json | jq .State.ExitCode
"#;

fn docker() -> Outcome {
    let ours = same(&format!("{DIRECTORY}{DOCKER}"))?;
    let expected = "null\n5\nout\nnull\nin exec\n3\npaused\n[\"exited\",7]\n[]\n";
    ensure(ours.stdout.contains(expected), || ours.to_string())
}

/// Bookworm's Podman 4.3 with bookworm's libraries. Its mounts go with the last of its processes;
/// its locks, in /dev/shm, are not those of the tree's Podman. `p` is that Podman, called as seldom as
/// can be: on a busy machine a call takes half a minute under emulation.
const PODMAN_4_3: &str = r#"
d=/var/lib/containers/engine; mkdir -p $d/upper $d/work $d/root; trap 'rm -rf $d' EXIT
podman save -q --format oci-archive localhost/busybox >$d/image.tar
cat >$d/script <<'END'
p() { timeout 100 podman "$@"; }
c() { command=$1; shift; p $command --runtime $RUNTIME --network none "$@"; }
p --version; p load -q -i /tmp/image.tar; bb=localhost/busybox
echo through a pipe | c run --rm -i -v /etc/os-release:/host:ro $bb sh -c 'tr a-z A-Z; grep ^VERSION_CODENAME /host; echo err >&2; exit 6'; echo $?
c run -d --name d --memory 200m $bb sh -c 'trap "echo stopped; exit 7" TERM; touch /ready; while :; do sleep 0.1; done' >/dev/null
p exec d sh -c 'until [ -e /ready ]; do sleep 0.1; done; echo in exec; exit 3'; echo $?
p stop -t 60 d >/dev/null; p logs d
p inspect d --format '{{.State.Status}} {{.State.ExitCode}} {{.OCIRuntime}}' | sed "s/ $RUNTIME$/ under the right one/"; p rm d >/dev/null
END
unshare --mount sh -c '
    set -e
    mount -t overlay -o lowerdir=$2,upperdir=$1/upper,workdir=$1/work overlay $1/root
    cd $1/root
    for shown in proc sys dev usr/local; do mount --rbind /$shown $shown; done
    for empty in run tmp dev/shm var/lib/containers; do mkdir -p $empty; mount -t tmpfs tmpfs $empty; done
    cp -r /etc/containers/containers.conf.d etc/containers/
    printf "[network]\nnetwork_backend = \"netavark\"\n" >etc/containers/containers.conf.d/99-network.conf
    cp $1/image.tar $1/script tmp/
    pivot_root . mnt; umount -l mnt
    exec chroot . sh /tmp/script' sh $d IMAGE
"#;

fn podman_4_3() -> Outcome {
    let ours = same(&PODMAN_4_3.replace("IMAGE", images::PODMAN_4_3))?;
    let expected = "podman version 4.3.1\nLoaded image: localhost/busybox:latest\nTHROUGH A PIPE\nVERSION_CODENAME=bookworm\n6\nin exec\n3\nstopped\nexited 7 under the right one\n";
    ensure(ours.stdout == expected, || ours.to_string())
}
