//! Submits a run: opens it, adds its tasks in chunks, seals it. Idempotent, and resumable at any point: a
//! coordinator that holds some chunks already says which one is missing and how many tasks it has, and those are not sent
//! again. Tasks that become known one after another are added as they come ([`Growing`]).
//!
//! The same tasks always give the same chunks, so that two that submit the same run do not get into each other's way:
//! [`Chunks`] cuts by encoded size and count alone.

use muster_proto::Message;
use muster_proto::limits::{ADD_TASKS_BYTES_MAX, RUN_TASKS_MAX, TASK_SPEC_BYTES_MAX};
use muster_proto::v1::{AddTasks, OpenRun, OpenRunReply, SealRun, TaskSpec};

use crate::adding::Adding;
use crate::backoff::{Backoff, RetryPolicy};
use crate::client::Client;
use crate::connect::Connector;
use crate::error::{ClientError, SubmitError};
use crate::limits::CHUNK_TASKS_MAX;

/// A run that the coordinator holds completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The coordinator knew the run before.
    pub existed: bool,
    /// It was complete before: nothing had to be sent.
    pub was_sealed: bool,
    /// Tasks it held before.
    pub tasks_before: u32,
    /// Tasks it holds now.
    pub tasks: u32,
}

/// Submits over one connection. A failed call is reported, and the whole can be called again.
///
/// # Errors
/// See [`SubmitError`].
pub async fn submit_run(
    client: &Client,
    open: OpenRun,
    tasks: impl IntoIterator<Item = TaskSpec>,
) -> Result<Submitted, SubmitError> {
    let mut chunks = Chunks::new(&open.run_id, tasks.into_iter());
    let opened = client.open(open).await?;
    let mut chunk = chunks.skip_held(&opened)?;
    while let Some(add) = chunk {
        client.add(add).await?;
        chunk = chunks.next_chunk()?;
    }
    if let Some(seal) = chunks.seal_request(&opened) {
        client.seal(seal).await?;
    }
    Ok(chunks.submitted(&opened))
}

/// Submits over as many connections as it takes: after a failure that may pass it waits, connects anew, asks what
/// the coordinator holds, and goes on from there.
///
/// # Errors
/// See [`SubmitError`]; [`ClientError::GaveUp`] when `policy` allows no more repetitions.
pub async fn submit_run_with(
    connector: &dyn Connector,
    policy: RetryPolicy,
    open: OpenRun,
    tasks: impl IntoIterator<Item = TaskSpec>,
) -> Result<Submitted, SubmitError> {
    let mut link = Link { connector, backoff: Backoff::new(policy), client: None };
    let mut chunks = Chunks::new(&open.run_id, tasks.into_iter());
    let opened = link.repeat(&open, |client, open| async move { client.open(open).await }).await?;
    if let Some(first) = chunks.skip_held(&opened)? {
        Adding::new(first, || chunks.next_chunk()).carry_out(&mut link).await?;
    }
    if let Some(seal) = chunks.seal_request(&opened) {
        link.repeat(&seal, |client, seal| async move { client.seal(seal).await }).await?;
    }
    Ok(chunks.submitted(&opened))
}

/// A run that is open, and whose tasks become known one after another.
pub struct Growing<'a> {
    link: Link<'a>,
    run_id: String,
    next_seq: u32,
    taken: u32,
}

impl<'a> Growing<'a> {
    /// Opens a run that nobody has opened before.
    ///
    /// # Errors
    /// See [`submit_run_with`].
    pub async fn open(
        connector: &'a dyn Connector,
        policy: RetryPolicy,
        open: OpenRun,
    ) -> Result<Growing<'a>, SubmitError> {
        let mut link = Link { connector, backoff: Backoff::new(policy), client: None };
        let opened = link.repeat(&open, |client, open| async move { client.open(open).await }).await?;
        if opened.sealed || opened.tasks > 0 {
            return Err(SubmitError::OtherTasks { run_id: open.run_id, held: opened.tasks, selected: 0 });
        }
        Ok(Self { link, run_id: open.run_id, next_seq: opened.next_seq, taken: 0 })
    }

    /// Adds these.
    ///
    /// # Errors
    /// See [`submit_run_with`].
    pub async fn add(&mut self, tasks: Vec<TaskSpec>) -> Result<(), SubmitError> {
        let mut chunks = Chunks::new(&self.run_id, tasks.into_iter());
        (chunks.next_seq, chunks.taken) = (self.next_seq, self.taken);
        while let Some(add) = chunks.next_chunk()? {
            self.link.repeat(&add, |client, add| async move { client.add(add).await }).await?;
        }
        (self.next_seq, self.taken) = (chunks.next_seq, chunks.taken);
        Ok(())
    }

    /// No more tasks; `partial` when some of what was asked for is not among them, so that the run is not green.
    ///
    /// # Errors
    /// See [`submit_run_with`].
    pub async fn seal(mut self, partial: bool) -> Result<(), SubmitError> {
        let seal = SealRun { run_id: self.run_id, tasks: self.taken, partial };
        self.link.repeat(&seal, |client, seal| async move { client.seal(seal).await }).await?;
        Ok(())
    }
}

/// Cuts tasks into chunks, and counts.
struct Chunks<I> {
    run_id: String,
    tasks: I,
    /// A task that did not fit into the previous chunk.
    left_over: Option<TaskSpec>,
    next_seq: u32,
    taken: u32,
}

impl<I: Iterator<Item = TaskSpec>> Chunks<I> {
    fn new(run_id: &str, tasks: I) -> Self {
        Self { run_id: run_id.to_owned(), tasks, left_over: None, next_seq: 0, taken: 0 }
    }

    /// The next chunk, never empty.
    fn next_chunk(&mut self) -> Result<Option<AddTasks>, SubmitError> {
        let mut chunk = AddTasks { run_id: self.run_id.clone(), seq: self.next_seq, tasks: Vec::new() };
        let mut bytes = chunk.encoded_len() + FIELD_BYTES;
        while chunk.tasks.len() < CHUNK_TASKS_MAX {
            let Some(task) = self.left_over.take().or_else(|| self.tasks.next()) else { break };
            let task_bytes = self.checked_len(&task, chunk.tasks.len())?;
            if !chunk.tasks.is_empty() && bytes + task_bytes + FIELD_BYTES > ADD_TASKS_BYTES_MAX {
                self.left_over = Some(task);
                break;
            }
            bytes += task_bytes + FIELD_BYTES;
            chunk.tasks.push(task);
        }
        if chunk.tasks.is_empty() {
            return Ok(None);
        }
        self.next_seq += 1;
        self.taken += u32::try_from(chunk.tasks.len()).expect("bounded by CHUNK_TASKS_MAX");
        if self.taken > RUN_TASKS_MAX {
            return Err(SubmitError::TooManyTasks { max: RUN_TASKS_MAX });
        }
        Ok(Some(chunk))
    }

    fn checked_len(&self, task: &TaskSpec, in_chunk: usize) -> Result<usize, SubmitError> {
        let bytes = task.encoded_len();
        if bytes <= TASK_SPEC_BYTES_MAX {
            return Ok(bytes);
        }
        let index = u64::from(self.taken) + in_chunk as u64;
        Err(SubmitError::TaskTooLarge { index, name: task.name.clone(), bytes, max: TASK_SPEC_BYTES_MAX })
    }

    /// Passes over the tasks that the coordinator holds and returns the first chunk of those that it does not.
    fn skip_held(&mut self, held: &OpenRunReply) -> Result<Option<AddTasks>, SubmitError> {
        let skipped = self.tasks.by_ref().take(held.tasks as usize).count();
        self.taken = u32::try_from(skipped).expect("no more than were asked for");
        self.next_seq = held.next_seq;
        let chunk = self.next_chunk()?;
        if skipped == held.tasks as usize && (chunk.is_none() || !held.sealed) {
            return Ok(chunk);
        }
        while self.next_chunk()?.is_some() {}
        Err(SubmitError::OtherTasks { run_id: self.run_id.clone(), held: held.tasks, selected: self.taken })
    }

    /// What seals the run, unless it was sealed when it was opened.
    fn seal_request(&self, opened: &OpenRunReply) -> Option<SealRun> {
        (!opened.sealed).then(|| SealRun { run_id: self.run_id.clone(), tasks: self.taken, partial: false })
    }

    fn submitted(&self, opened: &OpenRunReply) -> Submitted {
        Submitted { existed: opened.existed, was_sealed: opened.sealed, tasks_before: opened.tasks, tasks: self.taken }
    }
}

/// Tag and length of one task inside a chunk, at most.
const FIELD_BYTES: usize = 6;

/// A connection that is made anew when it fails.
pub(crate) struct Link<'a> {
    connector: &'a dyn Connector,
    backoff: Backoff,
    client: Option<Client>,
}

impl Link<'_> {
    async fn repeat<Q: Clone, R, F>(&mut self, request: &Q, call: impl Fn(Client, Q) -> F) -> Result<R, ClientError>
    where
        F: Future<Output = Result<R, ClientError>>,
    {
        loop {
            let error = match self.attempt(request, &call).await {
                Ok(reply) => {
                    self.progressed();
                    return Ok(reply);
                }
                Err(error) => error,
            };
            self.recover(error).await?;
        }
    }

    /// Something was done.
    pub(crate) fn progressed(&mut self) {
        self.connector.answered();
        self.backoff.progressed();
    }

    /// The connection, made anew if need be.
    pub(crate) async fn client(&mut self) -> Result<Client, ClientError> {
        Ok(match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(self.connector.connect().await?).clone(),
        })
    }

    /// After a failure: waits, so that the same can be tried again over another connection; or gives the error back.
    pub(crate) async fn recover(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.client = None;
        self.backoff.recover(self.connector, error).await
    }

    async fn attempt<Q: Clone, R, F>(&mut self, request: &Q, call: &impl Fn(Client, Q) -> F) -> Result<R, ClientError>
    where
        F: Future<Output = Result<R, ClientError>>,
    {
        call(self.client().await?, request.clone()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::v1::CommandSpec;

    fn task(name: &str, bytes: usize) -> TaskSpec {
        let argv = vec![vec![b'x'; bytes].into()];
        TaskSpec { name: name.into(), command: Some(CommandSpec { argv, ..Default::default() }), ..Default::default() }
    }

    fn all(tasks: Vec<TaskSpec>) -> Vec<AddTasks> {
        let mut chunks = Chunks::new("r", tasks.into_iter());
        std::iter::from_fn(|| chunks.next_chunk().expect("tasks of a legal size")).collect()
    }

    fn held(next_seq: u32, tasks: u32, sealed: bool) -> OpenRunReply {
        OpenRunReply { existed: true, tasks, next_seq, sealed }
    }

    #[test]
    fn chunks_are_numbered_complete_and_within_the_size() {
        let tasks: Vec<_> = (0..40).map(|n| task(&format!("t{n}"), 100_000)).collect();
        let chunks = all(tasks.clone());
        assert!(chunks.len() > 3);
        assert!(chunks.iter().all(|chunk| chunk.encoded_len() <= ADD_TASKS_BYTES_MAX));
        assert_eq!(
            chunks.iter().map(|chunk| chunk.seq).collect::<Vec<_>>(),
            (0..chunks.len() as u32).collect::<Vec<_>>()
        );
        let joined: Vec<_> = chunks.into_iter().flat_map(|chunk| chunk.tasks).collect();
        assert_eq!(joined, tasks, "every task once, in order");
    }

    #[test]
    fn many_small_tasks_are_cut_by_count() {
        let chunks = all((0..CHUNK_TASKS_MAX + 1).map(|n| task(&n.to_string(), 1)).collect());
        assert_eq!(chunks.iter().map(|chunk| chunk.tasks.len()).collect::<Vec<_>>(), [CHUNK_TASKS_MAX, 1]);
    }

    #[test]
    fn a_task_that_alone_is_too_large_is_named() {
        let mut chunks = Chunks::new("r", vec![task("ok", 1), task("huge", TASK_SPEC_BYTES_MAX + 1)].into_iter());
        let error = chunks.next_chunk().expect_err("too large").to_string();
        assert!(error.contains("task 1 (\"huge\")"), "{error}");
    }

    #[test]
    fn chunks_that_the_coordinator_holds_are_passed_over() {
        let tasks: Vec<_> = (0..40).map(|n| task(&format!("t{n}"), 100_000)).collect();
        let sent = all(tasks.clone());
        let in_two = (sent[0].tasks.len() + sent[1].tasks.len()) as u32;
        let mut chunks = Chunks::new("r", tasks.into_iter());
        let next = chunks.skip_held(&held(2, in_two, false)).expect("the same tasks").expect("more chunks");
        assert_eq!(next, sent[2]);
    }

    #[test]
    fn tasks_that_came_in_other_chunks_are_passed_over_too() {
        let mut chunks = Chunks::new("r", (0..5).map(|n| task(&n.to_string(), 1)));
        let next = chunks.skip_held(&held(3, 4, false)).expect("the same tasks").expect("one more");
        assert_eq!((next.seq, next.tasks[0].name.as_str(), chunks.taken), (3, "4", 5));
    }

    #[test]
    fn a_sealed_run_with_the_same_tasks_needs_nothing() {
        let mut chunks = Chunks::new("r", vec![task("a", 1), task("b", 1)].into_iter());
        assert_eq!(chunks.skip_held(&held(1, 2, true)).expect("the same tasks"), None);
        assert_eq!(chunks.seal_request(&held(1, 2, true)), None);
    }

    #[test]
    fn another_number_of_tasks_is_another_selection() {
        for reply in [held(1, 3, true), held(2, 3, false), held(1, 1, true)] {
            let mut chunks = Chunks::new("r", vec![task("a", 1), task("b", 1)].into_iter());
            match chunks.skip_held(&reply) {
                Err(SubmitError::OtherTasks { selected: 2, held, .. }) => assert_eq!(held, reply.tasks),
                other => panic!("{reply:?} gave {other:?}"),
            }
        }
    }
}
