//! The state as a sequence of records and back. Framing, checksums of frames and files belong to the caller;
//! the trailer's digest covers all records, so a lost or foreign record is noticed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::v1::snapshot_record::Kind;
use muster_proto::v1::{
    CircuitState, GroupPin, KeyValue, Resource, SnapshotCircuit, SnapshotHeader, SnapshotPreference, SnapshotRecord,
    SnapshotRun, SnapshotSession, SnapshotSuspect, SnapshotTask, SnapshotTasks, SnapshotTenant, SnapshotTrailer,
    TaskSpec, TaskState,
};
use muster_proto::version::SNAPSHOT_FORMAT;
use muster_proto::{Bytes, Message};
use xxhash_rust::xxh3::Xxh3;

use crate::planted::{self, Bug};
use crate::state::share::{Share, Tenant};
use crate::state::task::{Lease, Phase};
use crate::state::{Cancel, Circuit, Preference, Run, Session, Stand, State, Stored, Suspicion, Task};
use crate::time::LogTime;

/// Tasks in one record.
const RECORD_TASKS_MAX: usize = 512;

/// Why records are not a state.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// Written by a newer version.
    #[error(
        "the snapshot has format {found}, this version of muster reads up to {SNAPSHOT_FORMAT}; use a newer muster"
    )]
    TooNew {
        /// Format of the snapshot.
        found: u32,
    },
    /// A record does not decode, or stands where it cannot.
    #[error("record {record} of the snapshot is damaged: {what}")]
    Damaged {
        /// Number of the record, from 0.
        record: u64,
        /// What is wrong.
        what: String,
    },
    /// Records are missing.
    #[error("the snapshot ends after {records} records without its trailer")]
    Truncated {
        /// Records read.
        records: u64,
    },
}

impl State {
    /// The state as records; the first is the header, the last the trailer.
    pub fn snapshot_records(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.stored.records()
    }

    /// A digest of everything that is replicated: equal on all replicas at the same applied index.
    pub fn checksum(&self) -> u128 {
        self.stored.checksum()
    }

    /// The state from its records.
    ///
    /// # Errors
    /// When a record is damaged, missing or too new. Nothing is guessed.
    pub fn from_snapshot_records(records: impl IntoIterator<Item = Bytes>) -> Result<Self, SnapshotError> {
        let mut reader = Reader::default();
        for record in records {
            reader.read(&record)?;
        }
        reader.finish()
    }
}

impl Stored {
    /// As [`State::checksum`].
    pub fn checksum(&self) -> u128 {
        let mut digest = Xxh3::new();
        self.records().for_each(|record| digest.update(&record));
        digest.digest128()
    }

    /// The state as records; the first is the header, the last the trailer.
    pub fn records(&self) -> impl Iterator<Item = Bytes> + '_ {
        let header = std::iter::once_with(|| Kind::Header(self.header()));
        let runs = self.runs.values().flat_map(|run| run_records(run));
        let sessions = self.sessions.values().map(|session| Kind::Session(session_record(session)));
        let history = self.history.to_records().map(Kind::History);
        let mut digest = Xxh3::new();
        let mut count = 0;
        let body = header.chain(sessions).chain(runs).chain(history).map(Some).chain(std::iter::once(None));
        body.map(move |kind| {
            let kind = kind.unwrap_or_else(|| {
                let digest = Bytes::from(digest.digest128().to_be_bytes().to_vec());
                Kind::Trailer(SnapshotTrailer { records: count, digest })
            });
            let bytes: Bytes = SnapshotRecord { kind: Some(kind) }.encode_to_vec().into();
            digest.update(&bytes);
            count += 1;
            bytes
        })
    }

    fn header(&self) -> SnapshotHeader {
        SnapshotHeader {
            format: SNAPSHOT_FORMAT,
            log_time_us: self.log_time.us(),
            next_run: self.next_run,
            next_session: self.next_session,
            next_token: self.next_token,
            forgotten_runs: self.forgotten.iter().map(digest_bytes).collect(),
            drained_workers: self.drained.iter().cloned().collect(),
            circuits: self.circuits.iter().map(|(worker, circuit)| circuit_record(worker, circuit)).collect(),
            tenants: self.tenants.iter().map(|(name, tenant)| tenant_record(name, tenant)).collect(),
        }
    }
}

fn digest_bytes(digest: &u128) -> Bytes {
    digest.to_be_bytes().to_vec().into()
}

fn run_records(run: &Run) -> impl Iterator<Item = Kind> + '_ {
    let head = SnapshotRun {
        key: run.key,
        summary: Some(crate::view::run_summary(run)),
        cancel_mode: run.cancel.map_or(0, |cancel| cancel.mode as i32),
        body_digest: digest_bytes(&run.body_digest),
        chunk_digests: run.chunk_digests.iter().map(digest_bytes).collect(),
        opened_log_time_us: run.opened_log_time.us(),
        finished: run.finished.iter().copied().collect(),
        archive_digest: run.archived.clone().unwrap_or_default(),
        kept_output_bytes: run.kept_output_bytes,
        ended: run.ended,
        pins: run.pins.iter().map(|(group, session)| GroupPin { group: *group, session: *session }).collect(),
        closes_at_log_time_us: run.closes_at.map_or(0, LogTime::us),
        suspects: run.suspects().map(|(index, suspicion)| suspect_record(index, suspicion)).collect(),
        retry_rules: run.rules.to_vec(),
        preferences: run.preferences.iter().map(|(index, one)| preference_record(*index, one)).collect(),
        had_us: run.share.had_us,
        counted_at_us: run.share.counted_at.us(),
        demanding_at_us: run.demanding_at.us(),
    };
    let chunks = (0..run.tasks.len()).step_by(RECORD_TASKS_MAX).map(|start| {
        let tasks = run.tasks.iter_from(start).take(RECORD_TASKS_MAX).map(task_record).collect();
        Kind::Tasks(SnapshotTasks { run: run.key, tasks })
    });
    std::iter::once(Kind::Run(head)).chain(chunks)
}

fn task_record(task: &Task) -> SnapshotTask {
    let mut record = SnapshotTask {
        name: task.name.to_string(),
        spec: Bytes::copy_from_slice(&task.spec),
        expected_us: task.expected_us,
        front: task.front,
        granted: task.granted,
        returned: task.returned,
        attempts: task.attempts.clone(),
        item_is_name: task.item_is_name,
        group: task.group,
        retry_rules: task.retry_rules.into(),
        retried: task.retried,
        ..SnapshotTask::default()
    };
    match task.phase {
        Phase::Pending { not_before } => {
            record.set_state(TaskState::Pending);
            record.not_before_us = not_before.us();
        }
        Phase::Leased(lease) => {
            record.set_state(TaskState::Leased);
            (record.lease_token, record.lease_session) = (lease.token, lease.session);
        }
        Phase::Ended(result) => {
            record.set_state(TaskState::Ended);
            record.set_result(result);
        }
    }
    record
}

fn session_record(session: &Session) -> SnapshotSession {
    let label = |(key, value): (&String, &String)| KeyValue { key: key.clone(), value: value.clone() };
    let resource = |(name, amount): (&String, &u64)| Resource { name: name.clone(), amount: *amount };
    SnapshotSession {
        id: session.id,
        name: session.name.to_string(),
        nonce: session.nonce,
        slots: session.slots,
        leases_max: session.leases_max,
        labels: session.labels.iter().map(label).collect(),
        resources: session.resources.iter().map(resource).collect(),
        process: session.process.clone(),
        draining: session.draining,
        lease_ttl_ms: session.lease_ttl_ms,
    }
}

fn tenant_record(name: &str, tenant: &Tenant) -> SnapshotTenant {
    SnapshotTenant {
        name: name.to_owned(),
        weight: tenant.weight,
        had_us: tenant.share.had_us,
        counted_at_us: tenant.share.counted_at.us(),
    }
}

fn tenant_of(record: SnapshotTenant) -> (Arc<str>, Tenant) {
    let share = Share { had_us: record.had_us, counted_at: LogTime::from_us(record.counted_at_us) };
    (record.name.into(), Tenant { weight: record.weight.max(1), share, ..Tenant::default() })
}

fn suspect_record(index: u32, suspicion: &Suspicion) -> SnapshotSuspect {
    let mut record = SnapshotSuspect { index, worker: suspicion.worker.to_string(), ..SnapshotSuspect::default() };
    record.set_result(suspicion.result);
    record
}

fn preference_record(index: u32, preference: &Preference) -> SnapshotPreference {
    SnapshotPreference { index, worker: preference.worker.to_string(), until_us: preference.until.us() }
}

fn preference_of(record: SnapshotPreference) -> (u32, Preference) {
    let preference = Preference { worker: record.worker.into(), until: LogTime::from_us(record.until_us) };
    (record.index, preference)
}

fn suspicion_of(record: SnapshotSuspect) -> Suspicion {
    Suspicion { result: record.result(), worker: record.worker.into() }
}

fn circuit_record(worker: &str, circuit: &Circuit) -> SnapshotCircuit {
    let (probes, successes) = match &circuit.stand {
        Stand::HalfOpen { probes, successes } => (probes.clone(), *successes),
        Stand::Closed | Stand::Open { .. } => (Vec::new(), 0),
    };
    SnapshotCircuit {
        worker: worker.to_owned(),
        state: circuit.state().into(),
        open_until_us: circuit.open_until().map_or(0, LogTime::us),
        open_for_ms: circuit.open_for_ms,
        probes,
        successes,
        strikes: circuit.strikes.iter().map(digest_bytes).collect(),
        votes: circuit.votes.iter().map(digest_bytes).collect(),
        passes: circuit.passes,
        reason: circuit.reason.to_string(),
        quarantined: circuit.quarantine.is_some(),
        quarantine_reason: circuit.quarantine.as_deref().unwrap_or_default().to_owned(),
        changed_log_index: circuit.changed_log_index,
    }
}

fn circuit_of(record: SnapshotCircuit) -> Option<(Arc<str>, Arc<Circuit>)> {
    let stand = match record.state() {
        CircuitState::Closed => Stand::Closed,
        CircuitState::Open => Stand::Open { until: LogTime::from_us(record.open_until_us) },
        CircuitState::HalfOpen => Stand::HalfOpen { probes: record.probes, successes: record.successes },
        CircuitState::Unspecified => return None,
    };
    let circuit = Circuit {
        stand,
        strikes: record.strikes.iter().map(digest_of).collect::<Option<_>>()?,
        votes: record.votes.iter().map(digest_of).collect::<Option<_>>()?,
        passes: record.passes,
        open_for_ms: record.open_for_ms,
        reason: record.reason.into(),
        quarantine: record.quarantined.then(|| record.quarantine_reason.into()),
        changed_log_index: record.changed_log_index,
    };
    Some((record.worker.into(), Arc::new(circuit)))
}

/// Reads records one after another.
#[derive(Default)]
struct Reader {
    stored: Stored,
    runs: BTreeMap<u64, Run>,
    digest: Xxh3,
    records: u64,
    has_header: bool,
    complete: bool,
}

impl Reader {
    fn read(&mut self, bytes: &Bytes) -> Result<(), SnapshotError> {
        let record = SnapshotRecord::decode(bytes.as_ref()).map_err(|error| self.damaged(error.to_string()))?;
        let kind = record.kind.ok_or_else(|| self.damaged("it is of an unknown kind".into()))?;
        if self.complete {
            return Err(self.damaged("it stands behind the trailer".into()));
        }
        if self.has_header == matches!(kind, Kind::Header(_)) {
            return Err(self.damaged("the header stands first, once".into()));
        }
        let taken = match kind {
            Kind::Header(header) => return self.header(header, bytes),
            Kind::Run(run) => self.run(run),
            Kind::Tasks(tasks) => self.tasks(tasks),
            Kind::Session(session) => self.session(session),
            Kind::History(history) => self.stored.history.restore(history).then_some(()),
            Kind::Trailer(trailer) => {
                self.complete = true;
                let digest = self.digest.digest128().to_be_bytes();
                (trailer.records == self.records && trailer.digest.as_ref() == digest).then_some(())
            }
        };
        taken.ok_or_else(|| self.damaged("it contradicts the records before it".into()))?;
        self.count(bytes);
        Ok(())
    }

    fn count(&mut self, bytes: &Bytes) {
        self.digest.update(bytes);
        self.records += 1;
    }

    fn header(&mut self, header: SnapshotHeader, bytes: &Bytes) -> Result<(), SnapshotError> {
        if header.format > SNAPSHOT_FORMAT {
            return Err(SnapshotError::TooNew { found: header.format });
        }
        self.stored.log_time = LogTime::from_us(header.log_time_us);
        self.stored.next_run = header.next_run;
        self.stored.next_session = header.next_session;
        self.stored.next_token = header.next_token;
        let forgotten: Option<_> = header.forgotten_runs.iter().map(digest_of).collect();
        self.stored.forgotten = Arc::new(forgotten.ok_or_else(|| self.damaged("a digest is malformed".into()))?);
        self.stored.drained = Arc::new(header.drained_workers.into_iter().collect());
        if !planted::is(Bug::ForgetCircuits) {
            let circuits: Option<_> = header.circuits.into_iter().map(circuit_of).collect();
            self.stored.circuits = circuits.ok_or_else(|| self.damaged("a circuit is malformed".into()))?;
        }
        self.stored.tenants = Arc::new(header.tenants.into_iter().map(tenant_of).collect());
        self.has_header = true;
        self.count(bytes);
        Ok(())
    }

    fn run(&mut self, record: SnapshotRun) -> Option<()> {
        let summary = record.summary?;
        let chunk_digests: Option<Vec<_>> = record.chunk_digests.iter().map(digest_of).collect();
        let chunk_digests = if planted::is(Bug::ForgetDedup) { Vec::new() } else { chunk_digests? };
        let reason = summary.cancel_reason();
        let mode = muster_proto::v1::CancelMode::try_from(record.cancel_mode).ok()?;
        let run = Run {
            key: record.key,
            verdict: summary.verdict(),
            ledger: summary.ledger?,
            id: summary.run_id.into(),
            client: summary.client.into(),
            project: summary.project.into(),
            options: Arc::new(summary.options?),
            body_digest: digest_of(&record.body_digest)?,
            chunk_digests: Arc::new(chunk_digests),
            tasks: Default::default(),
            finished: record.finished.into_iter().collect(),
            sealed: summary.sealed,
            partial: summary.partial,
            ended: record.ended,
            cancel: (record.cancel_mode != 0).then_some(Cancel { reason, mode }),
            closes_at: (record.closes_at_log_time_us > 0).then(|| LogTime::from_us(record.closes_at_log_time_us)),
            pins: Arc::new(record.pins.iter().map(|pin| (pin.group, pin.session)).collect()),
            opened_wall_ms: summary.opened_wall_ms,
            ended_wall_ms: summary.ended_wall_ms,
            opened_log_time: LogTime::from_us(record.opened_log_time_us),
            attempts: summary.attempts,
            attempts_repeated: summary.attempts_repeated,
            task_time_us: summary.task_time_us,
            kept_output_bytes: record.kept_output_bytes,
            archived: (!record.archive_digest.is_empty()).then_some(record.archive_digest),
            suspects: Arc::new(
                record.suspects.into_iter().map(|suspect| (suspect.index, suspicion_of(suspect))).collect(),
            ),
            suspected: summary.suspected,
            confirmed: summary.confirmed,
            reclassed: summary.reclassed,
            retried: summary.retried,
            retries_refused: summary.retries_refused,
            rules: Arc::new(record.retry_rules),
            preferences: Arc::new(record.preferences.into_iter().map(preference_of).collect()),
            share: Share { had_us: record.had_us, counted_at: LogTime::from_us(record.counted_at_us) },
            demanding_at: LogTime::from_us(record.demanding_at_us),
            expected_left_us: 0,
            unknown_left: 0,
        };
        self.runs.insert(run.key, run).is_none().then_some(())
    }

    fn tasks(&mut self, record: SnapshotTasks) -> Option<()> {
        let run = self.runs.get_mut(&record.run)?;
        record.tasks.into_iter().try_for_each(|task| {
            let mut task = task_of(task)?;
            if usize::from(task.retry_rules) > run.rules.len() {
                return None;
            }
            if let Some(suspicion) = run.suspects.get(&run.task_count()) {
                task.goes_elsewhere(&suspicion.worker);
            }
            if let Some(preference) = run.preferences.get(&run.task_count()) {
                task.goes_rather_elsewhere(&preference.worker);
            }
            run.tasks.push(task);
            Some(())
        })
    }

    fn session(&mut self, record: SnapshotSession) -> Option<()> {
        let worker = muster_proto::v1::RegisterWorker {
            name: record.name,
            nonce: record.nonce,
            slots: record.slots,
            leases_max: record.leases_max,
            labels: record.labels,
            resources: record.resources,
            process: record.process,
            lease_ttl_ms: record.lease_ttl_ms,
        };
        let mut session = Session::new(record.id, worker);
        session.draining = record.draining;
        self.stored.sessions.insert(record.id, Arc::new(session)).is_none().then_some(())
    }

    fn finish(mut self) -> Result<State, SnapshotError> {
        if !self.complete {
            return Err(SnapshotError::Truncated { records: self.records });
        }
        self.stored.runs = self.runs.into_iter().map(|(key, run)| (key, Arc::new(run))).collect();
        Ok(State::from_stored(self.stored))
    }

    fn damaged(&self, what: String) -> SnapshotError {
        SnapshotError::Damaged { record: self.records, what }
    }
}

fn digest_of(bytes: &Bytes) -> Option<u128> {
    <[u8; 16]>::try_from(bytes.as_ref()).ok().map(u128::from_be_bytes)
}

fn task_of(record: SnapshotTask) -> Option<Task> {
    let spec = TaskSpec::decode(record.spec.as_ref()).ok()?;
    let phase = match record.state() {
        TaskState::Pending => Phase::Pending { not_before: LogTime::from_us(record.not_before_us) },
        TaskState::Leased => Phase::Leased(Lease { token: record.lease_token, session: record.lease_session }),
        TaskState::Ended => Phase::Ended(record.result()),
        TaskState::Unspecified | TaskState::Suspect => return None,
    };
    let item = if record.item_is_name { record.name.clone() } else { spec.item.clone() };
    let spec = TaskSpec { name: record.name, item, group: record.group, ..spec };
    let mut task = Task::new(spec, record.expected_us);
    task.phase = phase;
    task.front = record.front;
    task.granted = record.granted;
    task.returned = record.returned;
    task.retried = record.retried;
    if !planted::is(Bug::ForgetRetryRules) {
        task.retry_rules = u8::try_from(record.retry_rules).ok()?;
    }
    task.attempts = record.attempts;
    Some(task)
}
