//! `podman generate`: a container's description as Kubernetes and as systemd have it, and a pod
//! made of the former again.

use crate::harness::{Case, Outcome, ensure, same};

pub(super) const CASES: &[Case] = &[Case {
    name: "verbs::kube",
    run: kube,
}];

/// A container's file, played in its place. Podman gives the pod and the container names of its
/// own, which the file has; the unit is the played container's.
fn kube() -> Outcome {
    let ours = same(
        r#"d=$(mktemp -d); chmod 755 $d; mkdir $d/v; touch $d/v/file
           create_detached --name g -u 1000 -e A=b -v $d/v:/v $BB sh -c 'trap exit TERM; echo "kube $(id -u) $A $(ls /v)"; sleep 1000 & wait' >/dev/null
           podman generate kube -f $d/g.yaml g; podman rm -f -t 0 g
           pod=$(sed -n 's/^  name: //p' $d/g.yaml); name=$pod-$(sed -n 's/^    name: //p' $d/g.yaml | head -n 1)
           podman --runtime $RUNTIME kube play --network none $d/g.yaml >/dev/null; echo $?
           [ "$(podman inspect $name --format '{{.OCIRuntime}}')" = $RUNTIME ] && echo under it
           for i in $(seq 100); do podman logs $name 2>/dev/null | grep kube && break; sleep 0.2; done; podman exec $name id -u
           podman generate systemd --name $name 2>/dev/null | grep -E '^(ExecStart|Type)='
           podman kube down $d/g.yaml >/dev/null 2>&1; echo $?; podman ps -aq; podman pod ps -q; rm -r $d"#,
    )?;
    ensure(
        ours.stdout
            .contains("0\nunder it\nkube 1000 b file\n1000\n"),
        || ours.to_string(),
    )
}
