//! Processes and hosts that stand still and go on: what came meanwhile is taken then.

use std::collections::VecDeque;

use super::{Event, World};

impl World {
    /// The process stands still from here on.
    pub(super) fn worker_sleeps(&mut self, number: usize, life: u64) {
        let worker = &mut self.workers[number];
        worker.asleep |= worker.life == life;
    }

    /// The process goes on.
    pub(super) fn worker_wakes(&mut self, number: usize, life: u64) {
        let worker = &mut self.workers[number];
        if worker.life == life && worker.asleep {
            worker.asleep = false;
            self.take_piled_up(number);
        }
    }

    /// The host goes on, and with it whatever was not paused by itself.
    pub(super) fn host_wakes(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if !std::mem::take(&mut worker.frozen) {
            return;
        }
        let piled_up = std::mem::take(&mut worker.host_inbox);
        piled_up.into_iter().for_each(|event| self.happen(event));
        if !self.workers[number].asleep {
            self.take_piled_up(number);
        }
    }

    /// What has come meanwhile. Each source keeps its order, but nobody promises that a timer is looked at before a
    /// socket, or a socket before the keeper.
    fn take_piled_up(&mut self, number: usize) {
        let piled_up = std::mem::take(&mut self.workers[number].process_inbox);
        let (name, count) = (self.workers[number].name.clone(), piled_up.len());
        self.trace.line(self.agenda.now_us(), || format!("{name} goes on; {count} things have piled up"));
        let mut sources = [VecDeque::new(), VecDeque::new(), VecDeque::new()];
        for event in piled_up {
            let source = match event {
                Event::AgentTick { .. } => 0,
                Event::KeeperSays { .. } => 1,
                _ => 2,
            };
            sources[source].push_back(event);
        }
        while sources.iter().any(|source| !source.is_empty()) {
            let source = self.chance.work.below(3) as usize;
            if let Some(event) = sources[source].pop_front() {
                self.happen(event);
            }
        }
    }
}
