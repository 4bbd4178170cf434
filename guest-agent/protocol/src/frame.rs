//! Frames: a little-endian `u32` length, then that many bytes of postcard.
//!
//! Used by both ends over blocking streams. The length comes from the other side, so it is held
//! against [`MAX_FRAME`] before a byte is allocated.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Largest frame in bytes. A workload with the largest environment that execve takes
/// (2 MiB of arguments) and a large seccomp program fits.
pub const MAX_FRAME: u32 = 8 << 20;

/// What can go wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed, or ended within a frame.
    #[error("read or write an agent protocol frame")]
    Io(#[source] io::Error),
    /// The other side announced a frame that is too long.
    #[error("agent protocol frame of {length} bytes is over the limit of {MAX_FRAME}")]
    TooLong {
        /// The announced length in bytes.
        length: usize,
    },
    /// The bytes are no message of ours.
    #[error("decode an agent protocol frame of {length} bytes")]
    Decode {
        /// The frame's length in bytes.
        length: usize,
        /// What postcard found.
        #[source]
        source: postcard::Error,
    },
    /// A message could not be put into bytes.
    #[error("encode an agent protocol frame")]
    Encode(#[source] postcard::Error),
}

/// Writes `message` as one frame.
pub fn write<T: Serialize>(mut stream: impl Write, message: &T) -> Result<(), FrameError> {
    let body = postcard::to_stdvec(message).map_err(FrameError::Encode)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length <= MAX_FRAME)
        .ok_or(FrameError::TooLong { length: body.len() })?;
    let mut bytes = Vec::with_capacity(body.len() + 4);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).map_err(FrameError::Io)
}

/// Reads one frame. `Ok(None)` when the stream ended before its first byte.
pub fn read<T: DeserializeOwned>(mut stream: impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; 4];
    loop {
        match stream.read(&mut header[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    stream
        .read_exact(&mut header[1..])
        .map_err(FrameError::Io)?;
    let length = u32::from_le_bytes(header);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong {
            length: length as usize,
        });
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).map_err(FrameError::Io)?;
    decode(&body).map(Some)
}

/// Decodes the body of a frame; what follows the message is an error too.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let error = |source| FrameError::Decode {
        length: body.len(),
        source,
    };
    match postcard::take_from_bytes(body).map_err(error)? {
        (message, []) => Ok(message),
        _ => Err(error(postcard::Error::DeserializeBadEncoding)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GuestMessage, Request, RequestBody};

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let request = Request {
            id: 7,
            body: RequestBody::Signal {
                session: 3,
                signal: 15,
                all: false,
            },
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &request).unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(read::<Request>(&mut stream).unwrap(), Some(request));
        assert_eq!(read::<Request>(&mut stream).unwrap(), None);
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_read() {
        let bytes = (MAX_FRAME + 1).to_le_bytes();
        assert!(matches!(
            read::<Request>(&bytes[..]),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn a_cut_frame_and_a_padded_frame_are_errors() {
        let mut bytes = Vec::new();
        write(
            &mut bytes,
            &GuestMessage::Hello {
                version: 1,
                release: "6.12".into(),
                uptime_us: 0,
            },
        )
        .unwrap();
        assert!(matches!(
            read::<GuestMessage>(&bytes[..bytes.len() - 1]),
            Err(FrameError::Io(_))
        ));
        let mut padded = bytes[4..].to_vec();
        padded.push(0);
        assert!(matches!(
            decode::<GuestMessage>(&padded),
            Err(FrameError::Decode { .. })
        ));
    }
}
