//! The connection: one request at a time, answered by an acknowledgement or by a dump.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// What can go wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// There is no socket.
    #[error("open a netlink socket")]
    Open(#[source] io::Error),
    /// The exchange failed.
    #[error("{doing}")]
    Talk {
        /// What was asked for.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{doing}")]
    Refused {
        /// What was asked for.
        doing: String,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// An answer that this program does not know.
    #[error("{doing}")]
    Decode {
        /// What was asked for.
        doing: String,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// A change of something that is not there.
    #[error("there is no network interface `{name}`")]
    NoLink {
        /// Its name.
        name: String,
    },
}

impl NetlinkError {
    /// The errno of a request that was refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A connection to the kernel's routing tables.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a connection to the network namespace of this thread.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(NetlinkError::Open)?,
            sequence: 0,
        })
    }

    /// Asks for a change and waits until it is done. `flags` are added to the usual ones.
    pub fn change(
        &mut self,
        doing: impl Into<String>,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.ask(doing.into(), message, NLM_F_ACK | flags, |_| {})
    }

    /// Asks for a list.
    pub fn dump(
        &mut self,
        doing: impl Into<String>,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut list = Vec::new();
        self.ask(doing.into(), message, NLM_F_DUMP, |item| list.push(item))?;
        Ok(list)
    }

    fn ask(
        &mut self,
        doing: String,
        message: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), NetlinkError> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let talk = |source, doing: &str| NetlinkError::Talk {
            doing: doing.to_owned(),
            source,
        };
        self.socket
            .send(&bytes, 0)
            .map_err(|error| talk(error, &doing))?;
        loop {
            let (bytes, _) = self
                .socket
                .recv_from_full()
                .map_err(|error| talk(error, &doing))?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
                let answer = answer.map_err(|source| NetlinkError::Decode {
                    doing: doing.clone(),
                    source,
                })?;
                let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX);
                // Messages are aligned to four bytes.
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(NetlinkError::Refused {
                            doing,
                            source: error.to_io(),
                        });
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::InnerMessage(item) => take(item),
                    _ => {}
                }
            }
        }
    }
}
