//! The VM's CPU quota: `linux.resources.cpu`'s quota, period and burst.
//!
//! `build` takes it out of what libcontainer sees and puts it on the cgroup when the guest is
//! ready for `start`. A boot is work that no container of another runtime has to pay for from its
//! quota, and runs nothing of the image's; at a tenth of a processor it would take ten times as
//! long. Everything else that limits the VM holds from its first instruction.

use oci_spec::runtime::{LinuxCpu, LinuxResources, Spec};

use super::cgroup::{self, CgroupError};
use crate::state::Record;

/// Takes the quota out of `host`, if there is one.
pub(super) fn take(host: &mut Spec) -> Option<LinuxResources> {
    let resources = host.linux_mut().as_mut()?.resources_mut().as_mut()?;
    let cpu = resources.cpu_mut().as_mut()?;
    let taken = (cpu.quota(), cpu.period(), cpu.burst());
    if taken == (None, None, None) {
        return None;
    }
    let (quota, period, burst) = taken;
    cpu.set_quota(None::<i64>)
        .set_period(None::<u64>)
        .set_burst(None::<u64>);
    let mut cpu = LinuxCpu::default();
    cpu.set_quota(quota).set_period(period).set_burst(burst);
    let mut resources = LinuxResources::default();
    // The default lets no device be used.
    resources.set_devices(None).set_cpu(Some(cpu));
    Some(resources)
}

/// Puts what was taken on the cgroup of `record`.
pub(super) fn put(quota: Option<LinuxResources>, record: &Record) -> Result<(), CgroupError> {
    match (quota, &record.cgroup) {
        (Some(quota), Some(cgroup)) => cgroup::apply(cgroup, &record.id, &quota),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(cpu: &str) -> Spec {
        let text =
            format!(r#"{{"ociVersion": "1.2.0", "linux": {{"resources": {{"cpu": {cpu}}}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn weight_and_processors_stay() {
        let mut host = spec(r#"{"shares": 512, "quota": 5000, "period": 100000, "cpus": "0"}"#);
        let taken = take(&mut host).unwrap();
        let cpu = taken.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(5000), Some(100_000)));
        assert_eq!((cpu.shares(), cpu.cpus()), (None, &None));
        assert_eq!(taken.devices(), &None);
        assert_eq!(host, spec(r#"{"shares": 512, "cpus": "0"}"#));
    }

    #[test]
    fn nothing_is_taken_where_there_is_no_quota() {
        let text = r#"{"shares": 512}"#;
        let mut host = spec(text);
        assert!(take(&mut host).is_none());
        assert_eq!(host, spec(text));
    }
}
