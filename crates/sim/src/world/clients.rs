//! Clients: each submits one run in chunks, repeats what is not answered, cancels, and follows the run to its end.
//! Every answer is remembered as a promise.

use muster_core::{Refusal, Reply};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{CancelRun, RunSummary, SealRun, Verdict};

use super::event::{Answer, Call, Question};
use super::{Event, World};
use crate::fact::{Acknowledged, Fact};
use crate::limits::{CALL_TIMEOUT_MS, MS, WATCH_MS};
use crate::workload::RunPlan;

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Opening,
    Adding(u32),
    Sealing,
    Watching,
    Done,
}

/// One client with its run.
pub(super) struct Client {
    pub(super) plan: RunPlan,
    pub(super) stage: Stage,
    /// The call that is out.
    ticket: u64,
    cancel_ticket: u64,
    /// Cancels that were answered.
    cancelled: usize,
    /// Counts wake-ups, so that only the last one that was set counts.
    turn: u64,
    pub(super) told: Acknowledged,
}

impl Client {
    /// Its call with this ticket is not answered and not repeated.
    pub(super) fn waits_for(&self, ticket: u64) -> bool {
        [self.ticket, self.cancel_ticket].contains(&ticket)
    }
}

impl World {
    pub(super) fn begin_clients(&mut self) {
        for (client, plan) in self.scenario.runs.clone().into_iter().enumerate() {
            self.agenda.at(plan.open_at_us, Event::ClientWakes { client, turn: 0 });
            for (number, (at_us, ..)) in plan.cancels.iter().enumerate() {
                self.agenda.at(*at_us, Event::CancelDue { client, number });
            }
            self.clients.push(Client {
                plan,
                stage: Stage::Opening,
                ticket: 0,
                cancel_ticket: 0,
                cancelled: 0,
                turn: 0,
                told: Acknowledged::default(),
            });
        }
    }

    /// Puts a call on the network: it may be lost, it may arrive twice, and calls may overtake one another.
    pub(super) fn call(&mut self, call: Call) {
        let network = self.scenario.network.clone();
        let faulty = !self.faults_ended;
        if faulty && self.chance.network.chance(network.duplicate_pm) {
            let late_us = self.chance.network.below(network.duplicate_late_us);
            self.after(late_us, Event::CallArrives(Box::new(call.clone())));
        }
        if !(faulty && self.chance.network.chance(network.drop_pm)) {
            let delay_us = self.network_delay_us();
            self.after(delay_us, Event::CallArrives(Box::new(call)));
        }
    }

    /// Puts the leader's answer on the network.
    pub(super) fn answer(&mut self, client: usize, ticket: u64, answer: Answer) {
        let lost = !self.faults_ended && self.chance.network.chance(self.scenario.network.drop_pm);
        if !lost {
            let delay_us = self.network_delay_us();
            self.after(delay_us, Event::AnswerArrives { client, ticket, answer: Box::new(answer) });
        }
    }

    /// Begins, repeats what was not answered, or looks again.
    pub(super) fn client_wakes(&mut self, number: usize, turn: u64) {
        let client = &mut self.clients[number];
        if client.turn != turn || client.stage == Stage::Done {
            return;
        }
        let repeats = client.ticket > 0 && client.stage != Stage::Watching;
        if repeats && self.chance.client.chance(client.plan.begins_again_pm) {
            client.stage = Stage::Opening;
        }
        self.ask(number);
    }

    fn ask(&mut self, number: usize) {
        let ticket = self.number();
        let client = &mut self.clients[number];
        client.ticket = ticket;
        let plan = &client.plan;
        let run_id = plan.id().to_owned();
        let question = match client.stage {
            Stage::Opening => Question::Command(Kind::OpenRun(plan.open.clone()).into()),
            Stage::Adding(seq) => match plan.chunks.get(seq as usize) {
                Some(chunk) => Question::Command(Kind::AddTasks(chunk.clone()).into()),
                None => return self.proceed(number, Stage::Sealing),
            },
            Stage::Sealing => {
                Question::Command(Kind::SealRun(SealRun { run_id, tasks: plan.tasks(), partial: false }).into())
            }
            Stage::Watching => Question::Summary(run_id),
            Stage::Done => return,
        };
        self.call(Call { client: Some(number), ticket, question });
        let timeout_ms = self.chance.client.between(CALL_TIMEOUT_MS);
        self.wake_client(number, timeout_ms * MS);
    }

    fn wake_client(&mut self, number: usize, delay_us: u64) {
        let client = &mut self.clients[number];
        client.turn += 1;
        let turn = client.turn;
        self.after(delay_us, Event::ClientWakes { client: number, turn });
    }

    fn proceed(&mut self, number: usize, stage: Stage) {
        self.clients[number].stage = stage;
        self.ask(number);
    }

    pub(super) fn answer_arrives(&mut self, number: usize, ticket: u64, answer: Answer) {
        let client = &mut self.clients[number];
        if ticket == client.cancel_ticket {
            return self.cancel_answered(number, answer);
        }
        if ticket != client.ticket {
            return;
        }
        match (client.stage, answer) {
            (Stage::Watching, Answer::Summary(summary)) => self.looked(number, summary.as_deref()),
            (stage, Answer::Command(reply)) => self.command_answered(number, stage, reply),
            _ => {}
        }
    }

    fn command_answered(&mut self, number: usize, stage: Stage, reply: Result<Reply, Refusal>) {
        let client = &mut self.clients[number];
        let told = &mut client.told;
        match (stage, reply) {
            (Stage::Opening, Ok(Reply::RunOpened { tasks, next_seq, sealed, .. })) => {
                told.opened = true;
                told.tasks = told.tasks.max(tasks);
                let next = if sealed { Stage::Watching } else { Stage::Adding(next_seq) };
                self.proceed(number, next);
            }
            (Stage::Adding(seq), Ok(Reply::TasksAdded { tasks })) => {
                told.tasks = told.tasks.max(tasks);
                self.proceed(number, Stage::Adding(seq + 1));
            }
            (Stage::Sealing, Ok(_)) => {
                told.sealed = true;
                self.proceed(number, Stage::Watching);
            }
            // It was cancelled meanwhile: no more tasks fit in, and it is sealed.
            (Stage::Adding(_), Err(Refusal::Precondition(_))) => self.proceed(number, Stage::Sealing),
            (stage, reply) => {
                let id = client.plan.id();
                let what = format!("the client of {id}, {stage:?}, got {reply:?}");
                self.judge.object(self.moment(), "idempotent_submit", what);
            }
        }
    }

    fn looked(&mut self, number: usize, summary: Option<&RunSummary>) {
        let client = &mut self.clients[number];
        let (id, tasks) = (client.plan.id().to_owned(), client.plan.tasks());
        let Some(summary) = summary else { return self.see(&Fact::ClientMissed { run_id: &id }) };
        if summary.verdict() == Verdict::Unspecified {
            let look_ms = self.chance.client.between(WATCH_MS);
            return self.wake_client(number, look_ms * MS);
        }
        client.stage = Stage::Done;
        let exit_code = summary.exit_code();
        self.trace.line(self.agenda.now_us(), || format!("the client of {id} sees exit code {exit_code}"));
        self.see(&Fact::ClientSawEnd { run_id: &id, exit_code, tasks });
    }

    pub(super) fn cancel_due(&mut self, number: usize, cancel: usize) {
        let ticket = self.number();
        let client = &mut self.clients[number];
        if client.cancelled > cancel || client.stage == Stage::Done {
            return;
        }
        if client.told.opened {
            let (_, mode, reason) = client.plan.cancels[cancel];
            client.cancel_ticket = ticket;
            let mut command = CancelRun { run_id: client.plan.id().to_owned(), ..CancelRun::default() };
            command.set_mode(mode);
            command.set_reason(reason);
            self.call(Call {
                client: Some(number),
                ticket,
                question: Question::Command(Kind::CancelRun(command).into()),
            });
        }
        let again_ms = self.chance.client.between(CALL_TIMEOUT_MS);
        self.after(again_ms * MS, Event::CancelDue { client: number, number: cancel });
    }

    fn cancel_answered(&mut self, number: usize, answer: Answer) {
        let client = &mut self.clients[number];
        match answer {
            Answer::Command(Ok(Reply::RunCancelled { already_ended })) => {
                client.cancelled += 1;
                client.told.cancelled |= !already_ended;
            }
            other => {
                let what = format!("the cancel of {} got {other:?}", client.plan.id());
                self.judge.object(self.moment(), "cancel_wins", what);
            }
        }
    }

    /// Every client has seen the end of its run.
    pub(super) fn clients_are_done(&self) -> bool {
        self.clients.iter().all(|client| client.stage == Stage::Done)
    }
}
