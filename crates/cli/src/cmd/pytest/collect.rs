//! Has the suite loaded and listed. Where this process hosts, its worker starts the process that does it and keeps it
//! for the run; where another one hosts, a process of our own lists the tests and ends.

use std::cell::Cell;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use muster_frameworks::pytest::listing::{End, Listing, ListingError, Receiver};
use muster_proto::Bytes;
use muster_proto::v1::{Prepare, RunContext, RunnersEnded};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::super::follow::Follow;
use super::child;
use super::loaded::{Loaded, Printed};
use super::{suite, verdict};
use crate::exit_code::Failure;
use crate::host::session::Said;
use crate::host::{Session, socket};
use crate::limits::{COLLECT_DRAIN, COLLECT_END_WAIT_MAX, COLLECT_OUTPUT_BYTES_MAX, COLLECT_READ_BYTES, REDRAW_EVERY};
use crate::report::{Event, Reports, attempt};

/// A suite that was listed.
pub(super) struct Collected {
    pub(super) listing: Listing,
    pub(super) took: Duration,
    /// On which worker, where it was one of a cluster.
    pub(super) on: Option<String>,
}

/// Why there is no listing.
enum Stopped {
    /// Whoever made it ended before it was complete; how, where that is known.
    Died(Option<RunnersEnded>),
    Unreadable(ListingError),
    Unconnected(io::Error),
    Failed(Failure),
}

/// Loads and lists. What stays loaded is in `follow` from then on, also when there is no listing.
///
/// # Errors
/// Exit code 5 when there is no listing; what the process printed is told before that.
pub(super) async fn collect(follow: &mut Follow<'_>, run: RunContext) -> Result<Collected, Failure> {
    let began = Instant::now();
    let place = &follow.context.place;
    let printed = Printed::create(place, &run.run_id)?;
    let (listener, path) = socket::listen_for_listing(place)?;
    let socket = Socket(path);
    let bytes = |path: &std::path::Path| Bytes::copy_from_slice(path.as_os_str().as_bytes());
    let prepare =
        Prepare { context: Some(run.clone()), collect_socket: bytes(&socket.0), output_path: bytes(printed.path()) };
    let (ended, stays) = match follow.session.prepare(prepare.clone()).await {
        Some(ended) => (ended, true),
        None => (child::start(place, &prepare)?, false),
    };
    let mut loaded = Loaded { run_id: run.run_id.clone(), printed, ended };
    let reports = &mut follow.reporting.reports;
    let received = receive(&follow.session, &mut follow.said, reports, listener, &mut loaded.ended, began).await;
    drop(socket);
    match received {
        Ok(Listing { end: End::Failed(failed), .. }) => {
            // It says why when it ends, which it does now.
            let has_ended = tokio::time::timeout(COLLECT_END_WAIT_MAX, &mut loaded.ended).await.is_ok();
            tell_printed(reports, &loaded.printed);
            follow.loaded = (!has_ended && stays).then_some(loaded);
            Err(verdict::cannot_run(&failed))
        }
        Ok(listing) => {
            loaded.printed.skip();
            follow.loaded = stays.then_some(loaded);
            Ok(Collected { listing, took: began.elapsed(), on: None })
        }
        Err(stopped) => {
            let program = run.runner.as_ref().map(suite::program).unwrap_or_default();
            tell_printed(reports, &loaded.printed);
            // One that has ended needs no end; a live one is ended with everything else.
            let alive = !matches!(stopped, Stopped::Died(_));
            follow.loaded = (alive && stays).then_some(loaded);
            Err(stopped.failure(&program.to_string_lossy()))
        }
    }
}

/// Tells what the process printed: the end of it.
fn tell_printed(reports: &mut Reports, printed: &Printed) {
    match printed.rest(COLLECT_OUTPUT_BYTES_MAX) {
        Ok(bytes) if bytes.is_empty() => {}
        Ok(bytes) => reports.tell(Event::Printed(&bytes)),
        Err(error) => reports.tell(Event::Say(&format!("WARNING what pytest printed cannot be read: {error}"))),
    }
}

impl Stopped {
    fn failure(self, program: &str) -> Failure {
        match self {
            Self::Died(ended) => {
                let how = match ended.map(|ended| (ended.exit_code, ended.signal)) {
                    Some((_, signal @ 1..)) => format!("was killed by {}", attempt::signal_name(signal)),
                    Some((code @ 0.., _)) => format!("ended with exit code {code}"),
                    _ => {
                        return Failure::collect(format!(
                            "the tests could not be listed: {program} could not be started"
                        ));
                    }
                };
                let when = "before it had told of all of them";
                Failure::collect(format!("the tests could not be listed: {program} {how} {when}"))
            }
            Self::Unreadable(error) => Failure::collect(error.to_string()),
            Self::Unconnected(error) => Failure::collect(format!("the tests could not be listed: {error}")),
            Self::Failed(failure) => failure,
        }
    }
}

/// A socket's file; removed in the end.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        socket::remove(&self.0);
    }
}

/// How far a listing is.
#[derive(Default)]
struct Seen {
    bytes: Cell<u64>,
    items: Cell<usize>,
}

async fn receive(
    session: &Session,
    said: &mut Said,
    reports: &mut Reports,
    listener: UnixListener,
    ended: &mut oneshot::Receiver<RunnersEnded>,
    began: Instant,
) -> Result<Listing, Stopped> {
    let seen = Seen::default();
    let reading = read(listener, &seen);
    let failed = session.failed();
    tokio::pin!(reading, failed);
    let mut ticks = tokio::time::interval(REDRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Once it has ended: how, what had come by then, and until when more may come.
    let mut gone: Option<(Option<RunnersEnded>, u64, tokio::time::Instant)> = None;
    loop {
        let silent_until = gone.as_ref().map(|(_, _, until)| *until);
        tokio::select! {
            biased;
            received = &mut reading => return match received {
                Err(Stopped::Died(_)) => Err(Stopped::Died(how_it_ended(gone, ended).await)),
                received => received,
            },
            failure = &mut failed => return Err(Stopped::Failed(failure)),
            how = &mut *ended, if gone.is_none() => {
                gone = Some((how.ok(), seen.bytes.get(), tokio::time::Instant::now() + COLLECT_DRAIN));
            }
            Some(line) = said.recv() => reports.tell(Event::Say(&line)),
            _ = ticks.tick() => reports.tell(Event::Collecting { tests: seen.items.get(), elapsed: began.elapsed() }),
            () = until(silent_until) => {
                if let Some((how, before, silent)) = &mut gone {
                    if *before == seen.bytes.get() {
                        return Err(Stopped::Died(how.take()));
                    }
                    (*before, *silent) = (seen.bytes.get(), tokio::time::Instant::now() + COLLECT_DRAIN);
                }
            }
        }
    }
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The connection ends a little before the process does.
async fn how_it_ended(
    gone: Option<(Option<RunnersEnded>, u64, tokio::time::Instant)>,
    ended: &mut oneshot::Receiver<RunnersEnded>,
) -> Option<RunnersEnded> {
    match gone {
        Some((how, ..)) => how,
        None => tokio::time::timeout(COLLECT_END_WAIT_MAX, ended).await.ok()?.ok(),
    }
}

/// Waits for the connection and reads the listing from it.
async fn read(listener: UnixListener, seen: &Seen) -> Result<Listing, Stopped> {
    let (mut stream, _) = listener.accept().await.map_err(Stopped::Unconnected)?;
    let mut receiver = Receiver::default();
    let mut buffer = vec![0; COLLECT_READ_BYTES];
    while !receiver.is_complete() {
        let count = stream.read(&mut buffer).await.map_err(Stopped::Unconnected)?;
        if count == 0 {
            return Err(Stopped::Died(None));
        }
        receiver.take(&buffer[..count]).map_err(Stopped::Unreadable)?;
        seen.bytes.set(seen.bytes.get() + count as u64);
        seen.items.set(receiver.items());
    }
    receiver.finish().map_err(Stopped::Unreadable)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::host::Place;

    /// Receives from a process that is played: it says `frames`, and ends as `how` says.
    async fn received(frames: &[&str], how: Option<RunnersEnded>) -> Result<Listing, Stopped> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::find(Some(dir.path())).expect("there is a working directory");
        let (session, mut said) = Session::new(place.clone(), None);
        let (listener, path) = socket::listen_for_listing(&place).expect("a short path");
        let (end, mut ended) = oneshot::channel();
        let bytes: Vec<u8> =
            frames.iter().flat_map(|json| [&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat()).collect();
        let play = async {
            if !bytes.is_empty() {
                let mut stream = UnixStream::connect(&path).await.expect("somebody listens");
                stream.write_all(&bytes).await.expect("it is read");
            }
            match how {
                Some(how) => end.send(how).expect("it is waited for"),
                None => std::future::pending().await,
            }
        };
        let mut reports = Reports::default();
        let receive = receive(&session, &mut said, &mut reports, listener, &mut ended, Instant::now());
        tokio::select! {
            biased;
            received = receive => received,
            () = async { play.await; std::future::pending().await } => unreachable!("it waits"),
        }
    }

    const ITEMS: &str = r#"{"type":"items","items":[{"item":"a.py::b"}]}"#;
    const DONE: &str = r#"{"type":"done","items":1,"problems":0,"fork":true}"#;

    fn exited(exit_code: i32) -> Option<RunnersEnded> {
        Some(RunnersEnded { exit_code, ..Default::default() })
    }

    #[tokio::test]
    async fn a_listing_is_complete_whether_or_not_the_process_that_sent_it_lives_on() {
        for how in [None, exited(0)] {
            let listing = received(&[ITEMS, DONE], how).await;
            assert!(listing.is_ok_and(|listing| listing.items.len() == 1));
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_named_with_how() {
        for frames in [&[][..], &[ITEMS][..]] {
            let Err(stopped) = received(frames, exited(70)).await else { panic!("it is not complete") };
            let failure = stopped.failure("/p/python");
            assert_eq!(failure.code, crate::exit_code::COLLECT);
            assert!(failure.message.contains("/p/python ended with exit code 70"), "{failure}");
        }
    }

    #[tokio::test]
    async fn rubbish_is_no_listing() {
        assert!(matches!(received(&["{}"], None).await, Err(Stopped::Unreadable(_))));
    }
}
