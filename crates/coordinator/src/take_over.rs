//! What a change of leaders cost, told to those who watch: who was lost, how long nobody led, and whether an attempt has
//! to be repeated because of it. The last is known when every worker that held leases has come over or was given up.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_proto::v1::NoteKind;

use crate::consensus::Leadership;
use crate::main_loop::MainLoop;
use crate::signals::note;

/// A change of leaders whose cost is not known yet.
#[derive(Debug)]
pub(crate) struct TakeOver {
    /// Who led before, as far as this node knew.
    from: Option<String>,
    interregnum: Duration,
    term: u64,
    /// Sessions with leases that have not come over.
    awaited: BTreeSet<u64>,
    repeated: usize,
}

impl MainLoop {
    /// This node leads from now on.
    pub(crate) fn take_over(&mut self, now: &Leadership) {
        // A node that never heard of a leader has nobody to take over from.
        let Some(interregnum) = now.interregnum else { return };
        let awaited = self.shared.read(|state| {
            let holds = state.sessions().filter(|session| session.lease_count() > 0);
            holds.map(|session| session.id()).collect()
        });
        let from = self.last_leader.take();
        self.taking_over = Some(TakeOver { from, interregnum, term: now.term, awaited, repeated: 0 });
        self.tell_take_over();
    }

    /// A session has a stream here.
    pub(crate) fn came_over(&mut self, session: u64) {
        if let Some(taking_over) = &mut self.taking_over {
            taking_over.awaited.remove(&session);
            self.tell_take_over();
        }
    }

    /// So many attempts of a session run again.
    pub(crate) fn stayed_away(&mut self, session: u64, repeated: usize) {
        if let Some(taking_over) = &mut self.taking_over
            && taking_over.awaited.remove(&session)
        {
            taking_over.repeated = taking_over.repeated.saturating_add(repeated);
            self.tell_take_over();
        }
    }

    fn tell_take_over(&mut self) {
        let Some(done) = self.taking_over.take_if(|taking_over| taking_over.awaited.is_empty()) else { return };
        let TakeOver { from, interregnum, term, repeated, .. } = done;
        let lost = from.map_or_else(|| "the leader was lost".to_owned(), |from| format!("leader {from} lost"));
        let (node, seconds) = (&self.shared.node, interregnum.as_secs_f64());
        // Nobody knows any more which of them had begun.
        let repeated = if repeated == 0 { "0 repeated".to_owned() } else { format!("at most {repeated} repeated") };
        let text = format!("{lost}, {node} elected in {seconds:.2} s (term {term}), 0 results lost, {repeated}");
        tracing::info!("{text}");
        let note = note(NoteKind::LeaderChanged, text);
        let live: Vec<u64> = self.shared.read(|state| state.live_runs().map(|run| run.key()).collect());
        for run in live {
            self.shared.signals.remember(run, note.clone());
            self.shared.signals.note(Some(run), &note);
        }
    }
}
