//! How the main loop tells watches that there is something to look at. It never waits for them: results are not
//! sent along but read from the state by each watch at its own pace; notes are soft and may be dropped.

use std::collections::{BTreeMap, VecDeque};

use muster_proto::v1::{Note, NoteKind};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::limits::{NOTES_MAX, RECOVERED_NOTES_MAX};

/// The signals of all runs that somebody watches.
#[derive(Default)]
pub(crate) struct Signals(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    runs: BTreeMap<u64, RunSignal>,
    /// Said to everybody who watches the run in this life of the coordinator.
    recovered: VecDeque<(u64, Note)>,
}

struct RunSignal {
    changed: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    notes: broadcast::Sender<Note>,
}

/// A watch's end of a run's signals.
pub(crate) struct Signal {
    /// Changes when the run did.
    pub(crate) changed: watch::Receiver<u64>,
    /// Turns true when the run ends.
    pub(crate) ended: watch::Receiver<bool>,
    /// What happened to the infrastructure or to attempts.
    pub(crate) notes: broadcast::Receiver<Note>,
    /// What was found again when this coordinator started.
    pub(crate) recovered: Vec<Note>,
}

impl RunSignal {
    fn new() -> Self {
        Self {
            changed: watch::Sender::new(0),
            ended: watch::Sender::new(false),
            notes: broadcast::Sender::new(NOTES_MAX),
        }
    }

    fn is_watched(&self) -> bool {
        self.changed.receiver_count() > 0
    }
}

impl Signals {
    /// From now on the caller hears of this run.
    pub(crate) fn subscribe(&self, run: u64) -> Signal {
        let mut inner = self.0.lock();
        inner.runs.retain(|_, signal| signal.is_watched());
        let recovered = inner.recovered.iter().filter(|(of, _)| *of == run).map(|(_, note)| note.clone()).collect();
        let signal = inner.runs.entry(run).or_insert_with(RunSignal::new);
        Signal {
            changed: signal.changed.subscribe(),
            ended: signal.ended.subscribe(),
            notes: signal.notes.subscribe(),
            recovered,
        }
    }

    /// Somebody watches the run.
    pub(crate) fn is_watched(&self, run: u64) -> bool {
        self.0.lock().runs.get(&run).is_some_and(RunSignal::is_watched)
    }

    /// These runs changed.
    pub(crate) fn changed(&self, runs: impl IntoIterator<Item = u64>) {
        let inner = self.0.lock();
        for signal in runs.into_iter().filter_map(|run| inner.runs.get(&run)) {
            signal.changed.send_modify(|version| *version += 1);
        }
    }

    /// This run ended.
    pub(crate) fn ended(&self, run: u64) {
        if let Some(signal) = self.0.lock().runs.get(&run) {
            signal.changed.send_modify(|version| *version += 1);
            signal.ended.send_replace(true);
        }
    }

    /// Something to say to those who watch a run; `None` = whatever they watch.
    pub(crate) fn note(&self, run: Option<u64>, note: &Note) {
        let inner = self.0.lock();
        for (_, signal) in inner.runs.iter().filter(|(key, _)| run.is_none_or(|run| run == **key)) {
            // Without a receiver there is nobody to tell.
            let _ = signal.notes.send(note.clone());
        }
    }

    /// Something to say to everybody who will watch the run.
    pub(crate) fn recovered(&self, run: u64, text: String) {
        self.remember(run, note(NoteKind::Recovered, text));
    }

    /// A note for everybody who will watch the run. One who did already may get it twice, and knows it by its text.
    pub(crate) fn remember(&self, run: u64, note: Note) {
        let mut inner = self.0.lock();
        if inner.recovered.len() >= RECOVERED_NOTES_MAX {
            inner.recovered.pop_front();
        }
        inner.recovered.push_back((run, note));
    }
}

/// A note that is not about one task.
pub(crate) fn note(kind: NoteKind, text: impl Into<String>) -> Note {
    Note { kind: kind.into(), text: text.into(), task: String::new() }
}
