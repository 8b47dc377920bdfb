//! What an applied entry means for those whose commands were in it. Comes after its effects were sent.

use muster_core::state::{Session, Trust};
use muster_core::{Refusal, Reply, State};
use muster_proto::v1::coordinator_message::Kind;
use muster_proto::v1::{NoteKind, Welcome};
use tonic::Status;

use crate::main_loop::MainLoop;
use crate::pending::Origin;
use crate::refusal::{Failure, refused};
use crate::signals::note;
use crate::worker_sessions::{dispatch, phases};

type Answer = Result<Reply, Refusal>;

impl MainLoop {
    /// One answer for each command, in order.
    pub(crate) fn settle(&mut self, origins: Vec<Origin>, answers: Vec<Answer>) {
        debug_assert_eq!(origins.len(), answers.len(), "one answer for each command");
        for (origin, answer) in origins.into_iter().zip(answers) {
            self.settle_one(origin, answer);
        }
    }

    fn settle_one(&mut self, origin: Origin, answer: Answer) {
        match (origin, answer) {
            // A caller that has gone away needs no answer.
            (Origin::Caller(reply), answer) => drop(reply.send(answer.map_err(Failure::Refused))),
            (Origin::Hello { connection }, answer) => self.settle_hello(connection, answer),
            (Origin::Reports { connection, seq }, Ok(_)) => self.sessions.reports_done(connection, seq),
            (Origin::Reports { connection, .. }, Err(refusal)) => {
                self.sessions.refused(connection, refused(&refusal));
            }
            (Origin::Expiry { session, tokens }, Ok(answer)) => {
                tracing::warn!(session, leases = tokens.len(), ?answer, "leases of a silent worker expired");
                self.stayed_away(session, tokens.len());
                self.sessions.expired(session, tokens);
            }
            (Origin::Expiry { session, .. }, Err(refusal)) => {
                tracing::warn!(session, %refusal, "leases of a silent worker did not expire");
                self.sessions.stays(session);
            }
            (Origin::Lost { session }, Ok(answer)) => {
                let repeated = if let Reply::AttemptsEnded { accepted, .. } = answer { accepted } else { 0 };
                self.stayed_away(session, usize::try_from(repeated).unwrap_or(usize::MAX));
            }
            (Origin::Lost { session }, Err(refusal)) => self.sessions.ended(session, &refusal.to_string()),
            (Origin::Spool { session }, answer) => tracing::info!(session, ?answer, "spooled reports recorded"),
            (Origin::LeftOver { session, worker }, answer) => self.settle_left_over(session, &worker, &answer),
            (Origin::Grants, answer) => tracing::trace!(?answer, "granted"),
            (Origin::Archive { run_id }, answer) => {
                tracing::debug!(run_id, ?answer, "archived");
                self.archiver.settled();
            }
            (Origin::Time, _) => {}
        }
    }

    fn settle_left_over(&self, session: u64, worker: &str, answer: &Answer) {
        tracing::info!(session, worker, ?answer, "what a session left is recorded");
        if let Ok(Reply::AttemptsEnded { accepted, .. }) = answer
            && *accepted > 0
        {
            let text = format!("worker {worker} was started again: {accepted} finished attempts were found again");
            self.shared.signals.note(None, &note(NoteKind::Recovered, text));
        }
    }

    fn settle_hello(&mut self, connection: u64, answer: Answer) {
        match answer {
            Ok(Reply::WorkerRegistered { session, existed }) => self.welcome(connection, session, existed),
            Ok(other) => {
                tracing::error!(?other, "a bug: register_worker was answered with something else");
                self.sessions.refused(connection, Status::internal("register_worker was not answered"));
            }
            Err(refusal) => self.sessions.refused(connection, refused(&refusal)),
        }
    }

    /// The session has this stream now. One that comes back is told again what it holds, what is wanted
    /// back, and which runs are over.
    fn welcome(&mut self, connection: u64, session: u64, existed: bool) {
        let (sessions, drained) = (&mut self.sessions, &self.drained);
        let bound = self.shared.read(|state| {
            let session = state.session(session)?;
            let early = sessions.bind(connection, session)?;
            let held: Vec<_> = session.leases().collect();
            let told = sessions.told(session.id())?;
            let missed = if existed { phases::missed(state, session, drained) } else { Vec::new() };
            let revokes = dispatch::revokes(state, &held, takes_nothing(state, session)).into_iter().map(Kind::Revoke);
            Some((early, dispatch::leases(state, told, &held), revokes.chain(missed).collect::<Vec<_>>()))
        });
        // The session or its stream is over already.
        let Some((early, leases, others)) = bound else { return };
        self.came_over(session);
        self.recalls.stream_opened(session);
        let config = &self.shared.config;
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let welcome = Welcome {
            session,
            lease_ttl_ms: ms(config.lease_ttl),
            heartbeat_ms: ms(config.heartbeat),
            cluster: self.shared.cluster(),
        };
        tracing::debug!(session, connection, existed, leases = leases.len(), "welcome");
        self.sessions.send(session, Kind::Welcome(welcome));
        leases.into_iter().for_each(|leases| self.sessions.send(session, Kind::Leases(leases)));
        others.into_iter().for_each(|message| self.sessions.send(session, message));
        early.into_iter().for_each(|said| self.said(connection, session, said));
    }

    /// Nothing became of these commands.
    pub(crate) fn fail(&mut self, origins: Vec<Origin>, failure: &Failure) {
        for origin in origins {
            match origin {
                // A caller that has gone away needs no answer.
                Origin::Caller(reply) => drop(reply.send(Err(failure.clone()))),
                Origin::Hello { connection } | Origin::Reports { connection, .. } => {
                    self.sessions.refused(connection, failure.clone().into());
                }
                Origin::Expiry { session, .. } | Origin::Lost { session } | Origin::Spool { session } => {
                    self.sessions.stays(session);
                }
                Origin::Archive { .. } => self.archiver.settled(),
                // The hello behind it fails, too, and the worker says it again.
                Origin::LeftOver { .. } => {}
                Origin::Grants | Origin::Time => {}
            }
        }
    }
}

/// What it has not started is wanted back.
fn takes_nothing(state: &State, session: &Session) -> bool {
    session.draining() || state.trust(session.name()) == Trust::None
}
