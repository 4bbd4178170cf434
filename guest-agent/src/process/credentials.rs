//! Users, groups and the five capability sets.
//!
//! Called by `process::run`; afterwards the process is the container's user. The order matters:
//! the bounding set shrinks while CAP_SETPCAP is there, the ids change with capabilities kept,
//! the other sets come last.

use krun_gpu_protocol::{Capabilities, Process};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    /// A user or group id.
    #[error("{call} to {values:?}")]
    Ids {
        /// The call.
        call: &'static str,
        /// Its arguments.
        values: Vec<u32>,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// Capability sets.
    #[error("set capabilities ({step}) to {sets:x?}")]
    Capabilities {
        /// Which set.
        step: &'static str,
        /// What was asked for.
        sets: Capabilities,
        /// Why it failed.
        #[source]
        source: Errno,
    },
}

/// Becomes the user of `process`, with its capabilities.
pub(super) fn apply(process: &Process) -> Result<(), CredentialError> {
    let all = Capabilities {
        bounding: u64::MAX,
        effective: u64::MAX,
        inheritable: 0,
        permitted: u64::MAX,
        ambient: 0,
    };
    let wanted = process.capabilities;
    let failed = |step| {
        move |source| CredentialError::Capabilities {
            step,
            sets: wanted.unwrap_or(all),
            source,
        }
    };
    if let Some(sets) = wanted {
        bound(sets.bounding).map_err(failed("bounding"))?;
    }
    set_keep_capabilities(true).map_err(failed("keep"))?;
    become_user(process)?;
    if let Some(sets) = wanted {
        set_capabilities(
            None,
            CapabilitySets {
                effective: known(sets.effective),
                permitted: known(sets.permitted),
                inheritable: known(sets.inheritable),
            },
        )
        .map_err(failed("effective, permitted, inheritable"))?;
        // The kernel takes an ambient capability only if it is permitted and inheritable.
        let ambient = sets.ambient & sets.permitted & sets.inheritable;
        for capability in singles(ambient) {
            configure_capability_in_ambient_set(capability, true).map_err(failed("ambient"))?;
        }
    }
    set_keep_capabilities(false).map_err(failed("keep"))
}

fn become_user(process: &Process) -> Result<(), CredentialError> {
    let user = &process.user;
    let failed = |call, values: &[u32]| {
        let values = values.to_vec();
        move |source| CredentialError::Ids {
            call,
            values,
            source,
        }
    };
    let groups: Vec<Gid> = user
        .additional_gids
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    set_thread_groups(&groups).map_err(failed("setgroups", &user.additional_gids))?;
    let gid = Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid).map_err(failed("setresgid", &[user.gid]))?;
    let uid = Uid::from_raw(user.uid);
    set_thread_res_uid(uid, uid, uid).map_err(failed("setresuid", &[user.uid]))
}

/// Drops what is not in `kept` from the bounding set. EINVAL ends the list: the kernel knows no
/// capability from there on.
fn bound(kept: u64) -> Result<(), Errno> {
    for capability in singles(!kept) {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The sets of one capability each that make up `mask`, lowest first.
fn singles(mask: u64) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| 1_u64 << number)
        .filter(move |bit| mask & bit != 0)
        .map(CapabilitySet::from_bits_retain)
}

/// capset(2) refuses nothing that the kernel does not know, but it silently drops it; the mask
/// is passed as it is.
fn known(mask: u64) -> CapabilitySet {
    CapabilitySet::from_bits_retain(mask)
}
