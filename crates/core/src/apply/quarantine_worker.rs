//! `quarantine_worker`: a person does not trust a worker, or does again. Holds for every later session of that name.
//! Releasing it closes its circuit, too: whoever says that it is well need not wait.

use std::sync::Arc;

use muster_proto::v1::QuarantineWorker;

use super::circuits::bounded;
use super::register_worker::WORKER_NAME_BYTES_MAX;
use super::{Answer, Context};
use crate::State;
use crate::effect::{Refusal, Reply};
use crate::limits::CIRCUITS_MAX;
use crate::state::Circuit;

impl State {
    pub(super) fn quarantine_worker(&mut self, context: &mut Context, command: &QuarantineWorker) -> Answer {
        let name = &command.worker;
        if name.is_empty() || name.len() > WORKER_NAME_BYTES_MAX {
            return Err(Refusal::Invalid(format!("a worker's name has 1 to {WORKER_NAME_BYTES_MAX} bytes")));
        }
        let worker: Arc<str> = name.as_str().into();
        if !command.quarantined {
            self.release_worker(context, &worker);
            return Ok(Reply::Done);
        }
        let Some(circuit) = self.circuit_mut(context, &worker) else {
            return Err(Refusal::Exhausted(format!(
                "{CIRCUITS_MAX} workers are quarantined: release those that are gone first"
            )));
        };
        circuit.quarantine = Some(bounded(&command.reason).into());
        self.index.settle_due = true;
        self.want_back(context, name, |_| true);
        Ok(Reply::Done)
    }

    fn release_worker(&mut self, context: &mut Context, worker: &Arc<str>) {
        let Some(circuit) = self.circuit(worker) else { return };
        let was_broken = circuit.is_broken();
        let circuit = self.circuit_mut(context, worker).expect("it is there");
        circuit.quarantine = None;
        self.index.settle_due = true;
        if was_broken {
            self.close_circuit(context, worker, "released by a person");
        } else if self.circuit(worker).is_some_and(Circuit::is_clean) {
            self.stored.circuits.remove(worker);
        }
    }
}
