//! Directories of runs that are over, and are not gone yet. The next run of the same project waits for them for a moment, so that it
//! comes to the same place: what was prepared there can be used again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::Stop;
use crate::limits::WORKSPACE_LEAVE_MS_MAX;

/// Of one worker, by the root that a project had where the run was submitted.
#[derive(Debug, Default)]
pub(super) struct Departures {
    counts: parking_lot::Mutex<BTreeMap<Bytes, usize>>,
    one_is_over: Notify,
}

/// One that goes on until this is dropped.
#[derive(Debug)]
pub(super) struct Departure {
    of: Arc<Departures>,
    root: Bytes,
}

impl Departures {
    pub(super) fn begin(self: &Arc<Self>, root: Bytes) -> Departure {
        *self.counts.lock().entry(root.clone()).or_default() += 1;
        Departure { of: Arc::clone(self), root }
    }

    /// Waits until none of this root goes on, but not for long: what a run does at its end may take minutes.
    pub(super) async fn over(&self, root: &Bytes, stop: &Stop) {
        let over = async {
            loop {
                let told = self.one_is_over.notified();
                if !self.counts.lock().contains_key(root) {
                    return;
                }
                told.await;
            }
        };
        let most = Duration::from_millis(WORKSPACE_LEAVE_MS_MAX);
        tokio::select! {
            // Too long: it comes to another place.
            _ = tokio::time::timeout(most, over) => {}
            () = stop.stopped() => {}
        }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let mut counts = self.of.counts.lock();
        if let Some(count) = counts.get_mut(&self.root) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.root);
            }
        }
        drop(counts);
        self.of.one_is_over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(departures: &Departures, root: &'static str) -> bool {
        let (root, stop) = (Bytes::from_static(root.as_bytes()), Stop::default());
        let mut waiting = std::pin::pin!(departures.over(&root, &stop));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        waiting.as_mut().poll(&mut context).is_ready()
    }

    #[tokio::test]
    async fn who_comes_to_a_place_waits_for_all_that_leave_it_and_for_nobody_else() {
        let departures = Arc::new(Departures::default());
        let (one, other) = (departures.begin("/p".into()), departures.begin("/p".into()));
        assert!(!is_over(&departures, "/p") && is_over(&departures, "/q"));
        drop(one);
        assert!(!is_over(&departures, "/p"));
        drop(other);
        assert!(is_over(&departures, "/p"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_the_last_one_is_gone() {
        let departures = Arc::new(Departures::default());
        let leaving = departures.begin("/p".into());
        let (root, stop) = (Bytes::from_static(b"/p"), Stop::default());
        let leave = async {
            tokio::task::yield_now().await;
            drop(leaving);
        };
        let began = tokio::time::Instant::now();
        tokio::join!(departures.over(&root, &stop), leave);
        assert_eq!(began.elapsed(), Duration::ZERO, "the clock stands still unless everybody waits");
    }
}
