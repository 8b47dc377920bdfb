//! Frames between a worker and its keeper: length (u32, little endian), then a protobuf message.

use bytes::{Buf, BytesMut};
use muster_proto::Message;

use crate::limits::FRAME_BYTES_MAX;

const LENGTH_BYTES: usize = 4;

/// The other side does not speak this protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {length} bytes, {FRAME_BYTES_MAX} at most")]
    TooLong { length: usize },
    #[error("a frame that cannot be read: {0}")]
    Unreadable(#[from] prost::DecodeError),
}

/// Appends `message` as a frame.
pub(crate) fn put(out: &mut Vec<u8>, message: &impl Message) -> Result<(), FrameError> {
    let length = message.encoded_len();
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { length });
    }
    out.reserve(LENGTH_BYTES + length);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    message.encode_raw(out);
    Ok(())
}

/// Takes the next whole frame out of what was read; `None` if more must be read first.
pub(crate) fn take<M: Message + Default>(read: &mut BytesMut) -> Result<Option<M>, FrameError> {
    let Some(prefix) = read.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { length });
    }
    if read.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    read.advance(LENGTH_BYTES);
    Ok(Some(M::decode(read.split_to(length).freeze())?))
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{KeeperStarted, Stop};

    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = Vec::new();
        for token in [1, u64::MAX, 0] {
            put(&mut bytes, &Stop { token, grace_ms: 7, unstarted_only: true }).expect("small");
        }
        let (mut read, mut tokens) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            read.extend_from_slice(&[byte]);
            while let Some(stop) = take::<Stop>(&mut read).expect("a frame") {
                tokens.push(stop.token);
            }
        }
        assert_eq!((tokens, read.len()), (vec![1, u64::MAX, 0], 0));
    }

    #[test]
    fn a_length_past_the_limit_is_refused_before_it_is_read() {
        let mut read = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(matches!(take::<KeeperStarted>(&mut read), Err(FrameError::TooLong { .. })));
    }
}
