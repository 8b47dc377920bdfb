//! Answers of a worker to those who read what its attempts printed. Beside everything else that it says: a bounded
//! number of parts at a time, each read on a thread that may wait for the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use muster_proto::layout::DataDir;
use muster_proto::v1::{OutputPart, ReadOutput};
use tokio::task::JoinSet;

use crate::limits::{OUTPUT_PART_BYTES_MAX, OUTPUT_READS_MAX};

/// Parts that are being read for the coordinator of one stream.
pub(crate) struct OutputReads {
    data: DataDir,
    reading: JoinSet<OutputPart>,
}

impl OutputReads {
    pub(crate) fn new(data: DataDir) -> Self {
        Self { data, reading: JoinSet::new() }
    }

    /// Begins to read a part; gives the answer at once where that is refused.
    pub(crate) fn begin(&mut self, asked: ReadOutput) -> Option<OutputPart> {
        if self.reading.len() >= OUTPUT_READS_MAX {
            let error = format!("{OUTPUT_READS_MAX} parts of outputs are being read already");
            return Some(OutputPart { id: asked.id, offset: asked.offset, error, ..Default::default() });
        }
        let path = self.data.output(asked.task.unwrap_or_default(), asked.attempt);
        self.reading.spawn_blocking(move || answer(&path, &asked));
        None
    }

    /// The next part that was read. May be dropped at any await.
    pub(crate) async fn next(&mut self) -> OutputPart {
        match self.reading.join_next().await {
            Some(Ok(part)) => part,
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            None => std::future::pending().await,
        }
    }

    /// The stream on which they were asked for is gone: nobody waits for the answers.
    pub(crate) fn forget(&mut self) {
        self.reading = JoinSet::new();
    }
}

fn answer(path: &Path, asked: &ReadOutput) -> OutputPart {
    let part = OutputPart { id: asked.id, offset: asked.offset, ..Default::default() };
    match read(path, asked) {
        Ok((data, file_bytes)) => OutputPart { data: data.into(), file_bytes, found: true, ..part },
        Err(error) if error.kind() == io::ErrorKind::NotFound => part,
        Err(error) => OutputPart { error: format!("{}: {error}", path.display()), ..part },
    }
}

fn read(path: &Path, asked: &ReadOutput) -> io::Result<(Vec<u8>, u64)> {
    let mut file = open(path)?;
    let file_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(asked.offset))?;
    let bytes_max = (asked.bytes_max as usize).min(OUTPUT_PART_BYTES_MAX);
    let mut data = Vec::with_capacity(bytes_max.min(usize::try_from(file_bytes).unwrap_or(bytes_max)));
    file.take(bytes_max as u64).read_to_end(&mut data)?;
    Ok((data, file_bytes))
}

/// A test can put anything in the file's place, also a pipe that nobody writes to.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a file")) }
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TaskRef;

    use super::*;

    fn ask(id: u64, offset: u64, bytes_max: u32) -> ReadOutput {
        ReadOutput { id, task: Some(TaskRef::at(3, 7)), attempt: 2, offset, bytes_max }
    }

    fn with_output(bytes: &[u8]) -> (tempfile::TempDir, OutputReads) {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::new(dir.path());
        std::fs::create_dir_all(data.run_output(3)).expect("made");
        std::fs::write(data.output(TaskRef::at(3, 7), 2), bytes).expect("written");
        (dir, OutputReads::new(data))
    }

    async fn part(reads: &mut OutputReads, asked: ReadOutput) -> OutputPart {
        assert_eq!(reads.begin(asked), None);
        reads.next().await
    }

    #[tokio::test]
    async fn a_part_is_what_was_asked_for_and_no_more() {
        let (_dir, mut reads) = with_output(b"0123456789");
        let found = part(&mut reads, ask(5, 4, 3)).await;
        assert_eq!((found.id, found.offset, &found.data[..], found.file_bytes), (5, 4, &b"456"[..], 10));
        assert!(found.found && found.error.is_empty());
        let behind = part(&mut reads, ask(6, 10, 3)).await;
        assert!(behind.found && behind.data.is_empty(), "{behind:?}");
    }

    #[tokio::test]
    async fn what_is_not_there_and_what_is_no_file_are_told_apart() {
        let (dir, mut reads) = with_output(b"x");
        let none = part(&mut reads, ReadOutput { attempt: 9, ..ask(1, 0, 10) }).await;
        assert!(!none.found && none.error.is_empty(), "{none:?}");
        let path = DataDir::new(dir.path()).output(TaskRef::at(3, 7), 2);
        std::fs::remove_file(&path).expect("removed");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let fifo = part(&mut reads, ask(2, 0, 10)).await;
        assert!(!fifo.found && fifo.error.contains("not a file"), "{fifo:?}");
    }

    #[tokio::test]
    async fn more_than_a_few_at_once_are_refused_and_those_of_a_lost_stream_are_forgotten() {
        let (_dir, mut reads) = with_output(b"x");
        for id in 0..OUTPUT_READS_MAX as u64 {
            assert_eq!(reads.begin(ask(id, 0, 1)), None);
        }
        let refused = reads.begin(ask(99, 0, 1)).expect("refused at once");
        assert!(refused.id == 99 && refused.error.contains("already"), "{refused:?}");
        reads.forget();
        assert_eq!(part(&mut reads, ask(100, 0, 1)).await.id, 100, "what was asked before is never answered");
    }
}
