//! How votes, log ids and payloads are encoded in the records of the log. The log library frames them, adds a
//! checksum to each record and treats a record that ends too early as an interrupted write, which it cuts off.
//!
//! That last rule is dangerous: a flipped bit that makes a record *look* too long would cut off everything after
//! it. So each value begins with a tag, has a fixed size or a length that carries its own checksum, and anything
//! that is wrong without being short is `InvalidData`, which refuses to start. Only input that really ends early
//! is `UnexpectedEof`. A test flips every bit of a log to show that nothing is ever dropped in silence.
//!
//! | value | bytes (integers big endian) |
//! |---|---|
//! | log id | `L`, term u64, index u64 |
//! | vote | `V`, term u64, node u64, committed u8 |
//! | payload | `P`, kind u8 (0 blank, 1 command list, 2 membership), length u32, crc32 of the six bytes before, bytes |

use std::cmp::Ordering;
use std::io::{self, Read, Write};

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use prost::Message;
use raft_log::codeq::{Decode, Encode};

use crate::limits::ENTRY_BYTES_MAX;
use crate::membership::MembershipRecord;
use crate::type_config::{EntryBytes, LogId, Payload, Vote};

const TAG_LOG_ID: u8 = b'L';
const TAG_VOTE: u8 = b'V';
const TAG_PAYLOAD: u8 = b'P';
const KIND_BLANK: u8 = 0;
const KIND_COMMANDS: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// The log library's type parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalTypes;

impl raft_log::Types for WalTypes {
    type LogId = WalLogId;
    type LogPayload = WalPayload;
    type Vote = WalVote;
    type Callback = crate::wal::Completion;
    type UserData = ();

    fn log_index(log_id: &WalLogId) -> u64 {
        log_id.0.index()
    }

    fn payload_size(payload: &WalPayload) -> u64 {
        /// What a cached entry costs beside its bytes.
        const ENTRY_OVERHEAD_BYTES: u64 = 128;
        let bytes = if let Payload::Normal(data) = &payload.0 { data.0.len() as u64 } else { 0 };
        bytes + ENTRY_OVERHEAD_BYTES
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WalLogId(pub(crate) LogId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalVote(pub(crate) Vote);

impl PartialOrd for WalVote {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WalPayload(pub(crate) Payload);

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn read_array<const N: usize>(r: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    r.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn expect_tag(r: &mut impl Read, tag: u8) -> io::Result<()> {
    let [found] = read_array(r)?;
    if found == tag { Ok(()) } else { Err(invalid(format!("expected tag {tag:#04x}, found {found:#04x}"))) }
}

fn read_u64(r: &mut impl Read) -> io::Result<u64> {
    Ok(u64::from_be_bytes(read_array(r)?))
}

impl Encode for WalLogId {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let mut bytes = [0; 17];
        bytes[0] = TAG_LOG_ID;
        bytes[1..9].copy_from_slice(&self.0.committed_leader_id().term.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.0.index().to_be_bytes());
        w.write_all(&bytes)?;
        Ok(bytes.len())
    }
}

impl Decode for WalLogId {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        expect_tag(&mut r, TAG_LOG_ID)?;
        let term = read_u64(&mut r)?;
        Ok(Self(LogId::new_term_index(term, read_u64(&mut r)?)))
    }
}

impl Encode for WalVote {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let mut bytes = [0; 18];
        bytes[0] = TAG_VOTE;
        bytes[1..9].copy_from_slice(&self.0.leader_id.term().to_be_bytes());
        bytes[9..17].copy_from_slice(&self.0.leader_id.node_id().to_be_bytes());
        bytes[17] = u8::from(self.0.committed);
        w.write_all(&bytes)?;
        Ok(bytes.len())
    }
}

impl Decode for WalVote {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        expect_tag(&mut r, TAG_VOTE)?;
        let term = read_u64(&mut r)?;
        let node = read_u64(&mut r)?;
        match read_array(&mut r)? {
            [0] => Ok(Self(Vote::new(term, node))),
            [1] => Ok(Self(Vote::new_committed(term, node))),
            [other] => Err(invalid(format!("vote is neither pending (0) nor granted (1) but {other}"))),
        }
    }
}

impl Encode for WalPayload {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let (kind, bytes) = match &self.0 {
            Payload::Blank => (KIND_BLANK, Bytes::new()),
            Payload::Normal(data) => (KIND_COMMANDS, data.0.clone()),
            Payload::Membership(membership) => {
                (KIND_MEMBERSHIP, Bytes::from(MembershipRecord::from(membership).encode_to_vec()))
            }
        };
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= ENTRY_BYTES_MAX);
        let length = length.ok_or_else(|| {
            let kind = io::ErrorKind::InvalidInput;
            io::Error::new(
                kind,
                format!("entry of {} bytes is larger than the limit of {ENTRY_BYTES_MAX}", bytes.len()),
            )
        })?;
        let mut header = [0; 10];
        header[0] = TAG_PAYLOAD;
        header[1] = kind;
        header[2..6].copy_from_slice(&length.to_be_bytes());
        let crc = crc32fast::hash(&header[..6]);
        header[6..10].copy_from_slice(&crc.to_be_bytes());
        w.write_all(&header)?;
        w.write_all(&bytes)?;
        Ok(header.len() + bytes.len())
    }
}

impl Decode for WalPayload {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let header: [u8; 10] = read_array(&mut r)?;
        let [tag, kind, l0, l1, l2, l3, c0, c1, c2, c3] = header;
        if crc32fast::hash(&header[..6]) != u32::from_be_bytes([c0, c1, c2, c3]) || tag != TAG_PAYLOAD {
            return Err(invalid("checksum mismatch in the header of an entry"));
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > ENTRY_BYTES_MAX {
            return Err(invalid(format!("entry of {length} bytes is larger than the limit of {ENTRY_BYTES_MAX}")));
        }
        let mut bytes = vec![0; length];
        r.read_exact(&mut bytes)?;
        match kind {
            KIND_BLANK => Ok(Self(Payload::Blank)),
            KIND_COMMANDS => Ok(Self(Payload::Normal(EntryBytes(bytes.into())))),
            KIND_MEMBERSHIP => {
                let record = MembershipRecord::decode(&bytes[..]).map_err(|error| invalid(error.to_string()))?;
                Ok(Self(Payload::Membership(record.membership().map_err(invalid)?)))
            }
            other => Err(invalid(format!("entry has kind {other}, this muster knows kinds up to {KIND_MEMBERSHIP}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_prefix_is_short<T: Encode + Decode>(value: &T) {
        let mut bytes = Vec::new();
        let written = value.encode(&mut bytes).unwrap();
        assert_eq!(written, bytes.len());
        for end in 0..bytes.len() {
            let error = T::decode(&bytes[..end]).err().expect("a prefix is not a value");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {end} of {}", bytes.len());
        }
        assert!(T::decode(&bytes[..]).is_ok());
    }

    #[test]
    fn short_input_is_unexpected_eof_so_that_a_torn_tail_can_be_cut_off() {
        every_prefix_is_short(&WalLogId(LogId::new_term_index(1, 2)));
        every_prefix_is_short(&WalVote(Vote::new_committed(1, 2)));
        every_prefix_is_short(&WalPayload(Payload::Blank));
        every_prefix_is_short(&WalPayload(Payload::Normal(EntryBytes(Bytes::from_static(b"hello")))));
    }

    #[test]
    fn flipped_bit_in_a_length_is_not_mistaken_for_a_short_write() {
        let mut bytes = Vec::new();
        WalPayload(Payload::Normal(EntryBytes(Bytes::from_static(b"hello")))).encode(&mut bytes).unwrap();
        for bit in 0..80 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = WalPayload::decode(&flipped[..]).expect_err("header is protected");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "bit {bit}");
        }
    }
}
