//! The replicated state together with how far the log is applied to it and who is a member. Applying an entry is
//! the same here for the running node and for readers of a directory that nobody hosts.

use bytes::Bytes;
use muster_core::{Applied, State};
use muster_proto::Message;
use muster_proto::v1::LogEntry;
use muster_proto::version::LOG_ENTRY_FORMAT;

use crate::error::ReadError;
use crate::type_config::{Entry, LogId, Payload, StoredMembership, position};

#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) state: State,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Machine {
    /// Applies the next entry. An entry that cannot be understood changes nothing.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<Applied, ReadError> {
        let applied = match &entry.payload {
            Payload::Blank => Applied::default(),
            Payload::Normal(data) => {
                let commands = decode(entry.log_id.index(), &data.0)?;
                self.state.apply(position(&entry.log_id), commands)
            }
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                Applied::default()
            }
        };
        self.applied = Some(entry.log_id);
        Ok(applied)
    }
}

fn decode(index: u64, bytes: &Bytes) -> Result<LogEntry, ReadError> {
    let undecodable = |reason: String| ReadError::EntryUndecodable { index, reason };
    let entry = LogEntry::decode(bytes.clone()).map_err(|error| undecodable(error.to_string()))?;
    match entry.format {
        0 => Err(undecodable("it has no format version".into())),
        found if found > LOG_ENTRY_FORMAT => Err(ReadError::EntryTooNew { index, found, known: LOG_ENTRY_FORMAT }),
        _ => Ok(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_config::EntryBytes;

    fn entry(bytes: Vec<u8>) -> Entry {
        Entry { log_id: LogId::new_term_index(1, 5), payload: Payload::Normal(EntryBytes(bytes.into())) }
    }

    #[test]
    fn entry_of_a_newer_format_is_refused_naming_both_versions_and_changes_nothing() {
        let mut machine = Machine::default();
        let newer = LogEntry { format: LOG_ENTRY_FORMAT + 1, ..Default::default() };
        let error = machine.apply(&entry(newer.encode_to_vec())).unwrap_err().to_string();
        assert!(error.contains(&format!("format {}", LOG_ENTRY_FORMAT + 1)), "{error}");
        assert!(error.contains(&format!("up to {LOG_ENTRY_FORMAT}")), "{error}");
        assert_eq!(machine.applied, None);
    }

    #[test]
    fn entry_that_is_no_command_list_is_an_error_not_a_panic() {
        let mut machine = Machine::default();
        for bytes in [vec![], vec![0xff; 7], b"hello".to_vec()] {
            let error = machine.apply(&entry(bytes)).unwrap_err();
            assert!(matches!(error, ReadError::EntryUndecodable { index: 5, .. }), "{error}");
        }
    }
}
