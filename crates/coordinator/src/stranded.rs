//! Says in a run's output, at once, that no connected worker can ever run some of its tasks; and when one can.

use std::collections::BTreeSet;

use muster_core::explain::Stranded;
use muster_core::{State, explain};
use muster_proto::v1::{Note, NoteKind};

use crate::limits::STRANDED_WORKERS_SHOWN_MAX;
use crate::main_loop::MainLoop;
use crate::signals::note;

impl MainLoop {
    /// One look at what is ready.
    pub(crate) fn tell_stranded(&mut self) {
        // Where this process hosts the only worker, there is none just before it begins.
        let nobody_counts = self.shared.config.remote_outputs;
        let told = &self.stranded;
        let (now, notes) = self.shared.read(|state| {
            if !nobody_counts && state.sessions().next().is_none() {
                return (told.clone(), Vec::new());
            }
            let now: BTreeSet<_> = explain::stranded(state).into_iter().collect();
            let stuck = now.difference(told).map(|news| (news.run, stuck(state, news)));
            let met = told.difference(&now).filter_map(|old| Some((old.run, met(state, old)?)));
            let notes: Vec<_> = stuck.chain(met).collect();
            (now, notes)
        });
        self.stranded = now;
        for (run, note) in notes {
            tracing::info!(run, "{}", note.text);
            self.shared.signals.remember(run, note.clone());
            self.shared.signals.note(Some(run), &note);
        }
    }
}

fn stuck(state: &State, news: &Stranded) -> Note {
    let sessions = state.sessions().count();
    let text = match (sessions, news.needs().as_str()) {
        (0, "") => "no worker is connected: the tasks wait until one joins".to_owned(),
        (0, needs) => format!("no worker is connected: tasks that need {needs} wait until one joins that can run them"),
        (_, needs) => {
            let what = if needs.is_empty() { String::new() } else { format!(" that need {needs}") };
            let mut reasons = news.reasons(state, STRANDED_WORKERS_SHOWN_MAX).join("; ");
            if sessions > STRANDED_WORKERS_SHOWN_MAX {
                reasons.push_str(&format!("; and {} more", sessions - STRANDED_WORKERS_SHOWN_MAX));
            }
            format!("no connected worker can ever run the tasks{what}: {reasons}")
        }
    };
    note(NoteKind::Warning, text)
}

/// `None` if nothing of it waits any more for another reason.
fn met(state: &State, old: &Stranded) -> Option<Note> {
    state.run(old.run).filter(|run| !run.ended() && run.cancel().is_none())?;
    let worker = old.taker(state)?;
    let needs = old.needs();
    let what = if needs.is_empty() { "the tasks that waited".to_owned() } else { format!("tasks that need {needs}") };
    Some(note(NoteKind::NeedsMet, format!("worker {worker} can run {what}")))
}
