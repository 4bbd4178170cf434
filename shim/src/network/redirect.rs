//! Two interfaces joined by the kernel's traffic control: whatever comes in at one goes out at the
//! other, before the network namespace's own protocols see it.

use krun_gpu_netlink::{Link, Netlink, NetlinkError};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption,
    TcActionOption, TcActionType, TcAttribute, TcFilterFlower, TcFilterFlowerOption,
    TcFilterMatchAll, TcFilterMatchAllOption, TcHandle, TcMessage, TcMirror, TcMirrorActionType,
    TcOption,
};

use super::NetworkError;

/// The handle that every ingress qdisc has.
const INGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};

/// Order of our filters.
const OWN_FRAMES: u32 = 1;
const ALL_FRAMES: u32 = 2;

/// Joins `link` and `tap`.
pub(super) fn between(netlink: &mut Netlink, link: &Link, tap: &Link) -> Result<(), NetworkError> {
    add_qdisc(netlink, tap)?;
    add_filter(netlink, tap, link)?;
    add_qdisc(netlink, link).map_err(|error| match error.errno() {
        Some(libc::EEXIST) => NetworkError::Taken {
            name: link.name.clone(),
        },
        _ => error.into(),
    })?;
    add_filter(netlink, link, tap).map_err(|error| {
        // The first failure is the one to tell.
        let _ = remove(netlink, link);
        error.into()
    })
}

/// Lets frames that are for the tap's own address come in, instead of out at the other side.
pub(super) fn keep_own(netlink: &mut Netlink, tap: &Link) -> Result<(), NetworkError> {
    let mut address = [0; 6];
    for (to, from) in address.iter_mut().zip(&tap.address) {
        *to = *from;
    }
    let options = vec![
        TcOption::Flower(TcFilterFlowerOption::EthDst(address)),
        TcOption::Flower(TcFilterFlowerOption::EthDstMask([0xff; 6])),
    ];
    let message = filter(tap, OWN_FRAMES, TcFilterFlower::KIND, options);
    let doing = format!("keep frames for {} itself", tap.name);
    Ok(netlink.change(doing, message, NLM_F_CREATE | NLM_F_EXCL)?)
}

/// Takes the qdisc of `link` away, and the filter with it.
pub(super) fn remove(netlink: &mut Netlink, link: &Link) -> Result<(), NetworkError> {
    let message = RouteNetlinkMessage::DelQueueDiscipline(qdisc(link));
    match netlink.change(format!("free the frames of {}", link.name), message, 0) {
        // It is gone already.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => Ok(result?),
    }
}

fn add_qdisc(netlink: &mut Netlink, link: &Link) -> Result<(), NetlinkError> {
    let message = RouteNetlinkMessage::NewQueueDiscipline(qdisc(link));
    let doing = format!("take the frames that come in at {}", link.name);
    netlink.change(doing, message, NLM_F_CREATE | NLM_F_EXCL)
}

fn qdisc(link: &Link) -> TcMessage {
    let mut message = TcMessage::with_index(index(link));
    message.header.handle = INGRESS;
    message.header.parent = TcHandle::INGRESS;
    message
        .attributes
        .push(TcAttribute::Kind("ingress".to_owned()));
    message
}

fn add_filter(netlink: &mut Netlink, from: &Link, to: &Link) -> Result<(), NetlinkError> {
    let mut mirror = TcMirror::default();
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    mirror.generic = generic;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to.index;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    let options = vec![TcOption::MatchAll(TcFilterMatchAllOption::Action(vec![
        action,
    ]))];
    let message = filter(from, ALL_FRAMES, TcFilterMatchAll::KIND, options);
    let doing = format!("redirect frames from {} to {}", from.name, to.name);
    netlink.change(doing, message, NLM_F_CREATE | NLM_F_EXCL)
}

fn filter(link: &Link, order: u32, kind: &str, options: Vec<TcOption>) -> RouteNetlinkMessage {
    let mut message = TcMessage::with_index(index(link));
    message.header.parent = INGRESS;
    // The order, and the protocol in network byte order: any.
    let any = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    message.header.info = order << 16 | u32::from(any);
    message.attributes = vec![
        TcAttribute::Kind(kind.to_owned()),
        TcAttribute::Options(options),
    ];
    RouteNetlinkMessage::NewTrafficFilter(message)
}

fn index(link: &Link) -> i32 {
    i32::try_from(link.index).unwrap_or_default()
}
