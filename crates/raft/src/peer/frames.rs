//! One frame: length u32, kind u8, crc32 of these five bytes and the payload (all little endian), payload.
//!
//! What cannot be a frame ends the connection: nothing is skipped, and nothing is allocated for a length that was
//! not allowed.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::messages::Framed;

const HEADER_BYTES: usize = 9;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// The message in it, if it is that one.
    pub(crate) fn message<M: Framed>(self) -> io::Result<M> {
        if self.kind != M::KIND {
            return Err(invalid(format!("a message of kind {} came where {} was expected", self.kind, M::KIND)));
        }
        M::decode(self.payload).map_err(|error| invalid(format!("a message of kind {}: {error}", M::KIND)))
    }
}

pub(crate) fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// Encodes a message as a frame.
pub(crate) fn encode<M: Framed>(message: &M, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    message.encode_raw(out);
    let length = u32::try_from(out.len() - start - HEADER_BYTES).unwrap_or(u32::MAX);
    let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = M::KIND;
    let crc = checksum(&header[..5], payload);
    header[5..].copy_from_slice(&crc.to_le_bytes());
}

/// Writes a message and sends it off.
pub(crate) async fn send<M: Framed>(out: &mut (impl AsyncWrite + Unpin), message: &M) -> io::Result<()> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes);
    out.write_all(&bytes).await?;
    out.flush().await
}

/// The next frame, or `None` at a clean end.
pub(crate) async fn next(input: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER_BYTES];
    // A connection that ends between two frames has ended in order.
    if input.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut header[1..]).await?;
    let [l0, l1, l2, l3, kind, c0, c1, c2, c3] = header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > bytes_max {
        return Err(invalid(format!("a message of {length} bytes, {bytes_max} at most")));
    }
    let mut payload = vec![0; length];
    input.read_exact(&mut payload).await?;
    if checksum(&header[..5], &payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(invalid("checksum mismatch in a message"));
    }
    Ok(Some(Frame { kind, payload: payload.into() }))
}

/// The next frame, which must come.
pub(crate) async fn expect(input: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Frame> {
    let frame = next(input, bytes_max).await?;
    frame.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the answer"))
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::messages::{ReadIndex, Refused};

    fn frame() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&Refused { why: "no".into() }, &mut bytes);
        bytes
    }

    #[tokio::test]
    async fn a_message_survives_its_frame_and_the_end_is_clean() {
        let bytes = [frame(), frame()].concat();
        let mut input = &bytes[..];
        for _ in 0..2 {
            let came = next(&mut input, 100).await.unwrap().expect("a frame");
            assert_eq!(came.message::<Refused>().unwrap().why, "no");
        }
        assert!(next(&mut input, 100).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn every_flipped_bit_and_every_cut_is_noticed() {
        let sound = frame();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(next(&mut &bytes[..], 100).await.is_err(), "bit {bit}");
        }
        for end in 1..sound.len() {
            assert!(next(&mut &sound[..end], 100).await.is_err(), "cut at {end}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_or_another_one_is_refused_with_both_numbers() {
        let bytes = frame();
        let error = next(&mut &bytes[..], 3).await.expect_err("4 bytes").to_string();
        assert!(error.contains("4 bytes, 3 at most"), "{error}");
        let came = next(&mut &bytes[..], 100).await.unwrap().expect("a frame");
        let error = came.message::<ReadIndex>().expect_err("another kind").to_string();
        assert!(error.contains("kind 16 came where 10"), "{error}");
    }
}
