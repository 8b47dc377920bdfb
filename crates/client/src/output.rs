//! Bytes of an attempt's output as they come, in order and without gaps.

use muster_proto::Bytes;
use muster_proto::v1::OutputChunk;
use tonic::Streaming;

use crate::client::Client;
use crate::error::ClientError;

/// Reads one attempt's output.
#[derive(Debug)]
pub struct OutputReader {
    stream: Streaming<OutputChunk>,
    client: Client,
    asked: String,
    offset: u64,
    ended: bool,
}

impl OutputReader {
    pub(crate) fn new(stream: Streaming<OutputChunk>, client: Client, asked: String, offset: u64) -> Self {
        Self { stream, client, asked, offset, ended: false }
    }

    /// Offset of the byte that comes next: where to continue after an error.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, never empty; `None` after the last ones.
    ///
    /// # Errors
    /// `DataLoss` where a part of the output is lost; [`ClientError::EndedEarly`] if the stream stops before it
    /// said that nothing follows, so that a cut-off output never looks complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while !self.ended {
            let message = self.stream.message().await.map_err(|status| self.client.call_error(&self.asked, status))?;
            let Some(chunk) = message else { return Err(self.client.ended_early(&self.asked)) };
            self.ended = chunk.end;
            if chunk.data.is_empty() {
                continue;
            }
            if chunk.offset != self.offset {
                let what = format!("bytes from offset {} where {} was due", chunk.offset, self.offset);
                return Err(self.client.protocol_error(&self.asked, what));
            }
            self.offset += chunk.data.len() as u64;
            return Ok(Some(chunk.data));
        }
        Ok(None)
    }

    /// All bytes that are left, into `to`.
    ///
    /// # Errors
    /// As [`OutputReader::next`]; what came before the error is in `to`.
    pub async fn read_to_end(&mut self, to: &mut Vec<u8>) -> Result<(), ClientError> {
        while let Some(bytes) = self.next().await? {
            to.extend_from_slice(&bytes);
        }
        Ok(())
    }
}
