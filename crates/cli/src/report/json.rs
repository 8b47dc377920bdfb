//! JSON for machines: one object a line, each with the format's version `v` and its `type`. Strings are exact;
//! control and bidi characters in them are written as `\uXXXX`, so a line is also safe on a terminal.

use std::io::{self, Write};

use muster_proto::v1::{
    Attempt, CircuitState, Expectation, Ledger, Outcome, RunSummary, StatusReply, TaskRow, TaskState, TestDetail,
    Verdict, WorkerRow,
};
use muster_proto::version::REPORT_FORMAT;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::sanitise::is_unsafe;

/// Writes one line: `v`, `type`, then the fields of `body`.
///
/// # Errors
/// When `out` fails.
pub(crate) fn write_line(out: &mut impl Write, kind: &str, body: impl Serialize) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        v: u32,
        r#type: &'a str,
        #[serde(flatten)]
        body: T,
    }
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, VisibleFormatter(CompactFormatter));
    Line { v: REPORT_FORMAT, r#type: kind, body }.serialize(&mut serializer)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Compact, with everything that a terminal would obey escaped.
struct VisibleFormatter(CompactFormatter);

impl Formatter for VisibleFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            self.0.write_string_fragment(out, &rest[..at])?;
            let Some(c) = rest[at..].chars().next() else { break };
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_string_fragment(out, rest)
    }
}

/// A run.
#[derive(Serialize)]
pub(crate) struct RunJson<'a> {
    run: &'a str,
    project: &'a str,
    description: &'a str,
    framework: &'a str,
    client: &'a str,
    verdict: &'static str,
    /// What `run` exits with; null while it goes on.
    exit_code: Option<u8>,
    cancel_reason: Option<&'static str>,
    ledger: LedgerJson,
    opened_ms: u64,
    ended_ms: Option<u64>,
    attempts: u64,
    attempts_repeated: u64,
    /// Failures of which another worker was asked; of these, those that failed there too.
    suspected: u64,
    confirmed: u64,
    /// Attempts whose failure was laid to the worker.
    reclassed: u64,
    task_time_us: u64,
}

impl<'a> From<&'a RunSummary> for RunJson<'a> {
    fn from(run: &'a RunSummary) -> Self {
        let options = run.options.as_ref();
        let ended = run.verdict() != Verdict::Unspecified;
        Self {
            run: &run.run_id,
            project: &run.project,
            description: options.map_or("", |options| &options.description),
            framework: options.map_or("", |options| &options.framework),
            client: &run.client,
            verdict: run.verdict().word(),
            exit_code: ended.then(|| run.exit_code()),
            cancel_reason: super::json_words::cancel_reason(run.cancel_reason()),
            ledger: run.ledger.unwrap_or_default().into(),
            opened_ms: run.opened_wall_ms,
            ended_ms: ended.then_some(run.ended_wall_ms),
            attempts: run.attempts,
            attempts_repeated: run.attempts_repeated,
            suspected: run.suspected,
            confirmed: run.confirmed,
            reclassed: run.reclassed,
            task_time_us: run.task_time_us,
        }
    }
}

/// The ledger, every term.
#[derive(Serialize)]
pub(crate) struct LedgerJson {
    selected: u64,
    passed: u64,
    flaky: u64,
    skipped: u64,
    failed: u64,
    timed_out: u64,
    crashed: u64,
    infra: u64,
    cancelled: u64,
    unaccounted: u64,
    pending: u64,
    leased: u64,
    suspect: u64,
}

impl From<Ledger> for LedgerJson {
    fn from(ledger: Ledger) -> Self {
        Self {
            selected: ledger.selected,
            passed: ledger.passed,
            flaky: ledger.flaky,
            skipped: ledger.skipped,
            failed: ledger.failed,
            timed_out: ledger.timed_out,
            crashed: ledger.crashed,
            infra: ledger.infra,
            cancelled: ledger.cancelled,
            unaccounted: ledger.unaccounted(),
            pending: ledger.pending,
            leased: ledger.leased,
            suspect: ledger.suspect,
        }
    }
}

/// A task with its attempts.
#[derive(Serialize)]
pub(crate) struct TaskJson<'a> {
    run: &'a str,
    index: u32,
    name: &'a str,
    state: &'static str,
    /// Null while it has none.
    result: Option<&'static str>,
    reason: &'a str,
    quarantined: bool,
    expected_us: u64,
    worker: &'a str,
    attempts: Vec<AttemptJson<'a>>,
}

impl<'a> TaskJson<'a> {
    /// Of a row of the run `run`.
    pub(crate) fn new(run: &'a str, row: &'a TaskRow) -> Self {
        Self {
            run,
            index: row.index,
            name: &row.name,
            state: super::json_words::task_state(row.state()),
            result: (row.state() == TaskState::Ended).then(|| row.result().word()),
            reason: &row.reason,
            quarantined: row.quarantined,
            expected_us: row.expected_us,
            worker: &row.lease_worker,
            attempts: row.attempts.iter().map(AttemptJson::from).collect(),
        }
    }
}

/// An ended attempt.
#[derive(Serialize)]
pub(crate) struct AttemptJson<'a> {
    attempt: u32,
    worker: &'a str,
    outcome: &'static str,
    /// What the worker said, where its failure was laid to it; null otherwise.
    reclassed_from: Option<&'static str>,
    exit_code: Option<i32>,
    signal: Option<u32>,
    message: String,
    started_ms: u64,
    wall_us: u64,
    user_us: u64,
    sys_us: u64,
    memory_peak_kib: u64,
    output_bytes: u64,
    output_lost: bool,
    /// Kept of an attempt that did not pass; bytes that are not UTF-8 are replaced.
    output_head: String,
    output_tail: String,
    metrics: Vec<MetricJson>,
    /// Null where no framework ran it.
    detail: Option<DetailJson>,
}

/// What a test framework says of it.
#[derive(Serialize)]
struct DetailJson {
    /// In which it ended otherwise than passed: `setup`, `call`, `teardown`; null when passed.
    phase: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    /// `xfailed`, `xpassed`, or null.
    expectation: Option<&'static str>,
    /// The test's own, in their order.
    properties: Vec<(String, String)>,
}

impl From<&TestDetail> for DetailJson {
    fn from(detail: &TestDetail) -> Self {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            phase: text(&detail.phase),
            file: text(&detail.file),
            line: (detail.line > 0).then_some(detail.line),
            expectation: match detail.expectation() {
                Expectation::Unspecified => None,
                Expectation::Xfailed => Some("xfailed"),
                Expectation::Xpassed => Some("xpassed"),
            },
            properties: detail.properties.iter().map(|own| (own.key.clone(), own.value.clone())).collect(),
        }
    }
}

#[derive(Serialize)]
struct MetricJson {
    name: String,
    value: f64,
    unit: String,
}

impl<'a> From<&'a Attempt> for AttemptJson<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let report = attempt.report.clone().unwrap_or_default();
        let metrics = report.metrics.iter().map(|metric| MetricJson {
            name: metric.name.clone(),
            value: metric.value,
            unit: metric.unit.clone(),
        });
        Self {
            attempt: attempt.number,
            worker: &attempt.worker,
            outcome: report.outcome().word(),
            reclassed_from: (attempt.reclassed_from() != Outcome::Unspecified).then(|| attempt.reclassed_from().word()),
            exit_code: (report.exit_code >= 0).then_some(report.exit_code),
            signal: (report.signal > 0).then_some(report.signal),
            message: report.message.clone(),
            started_ms: report.started_wall_ms,
            wall_us: report.wall_us,
            user_us: report.user_us,
            sys_us: report.sys_us,
            memory_peak_kib: report.memory_peak_kib,
            output_bytes: report.output_bytes,
            output_lost: report.output_lost,
            output_head: String::from_utf8_lossy(&report.output_head).into_owned(),
            output_tail: String::from_utf8_lossy(&report.output_tail).into_owned(),
            metrics: metrics.collect(),
            detail: report.detail.as_ref().map(DetailJson::from),
        }
    }
}

/// A worker.
#[derive(Serialize)]
pub(crate) struct WorkerJson<'a> {
    name: &'a str,
    session: u64,
    slots: u32,
    leased: u32,
    draining: bool,
    /// `closed`, `open`, `half_open`.
    circuit: &'static str,
    /// Why it is not closed.
    circuit_reason: &'a str,
    /// How long it is open yet; null unless it is open.
    circuit_left_ms: Option<u64>,
    quarantined: bool,
    quarantine_reason: &'a str,
    /// Its failures that wait for another worker's word.
    doubted: u32,
    labels: std::collections::BTreeMap<&'a str, &'a str>,
    resources: std::collections::BTreeMap<&'a str, u64>,
}

impl<'a> From<&'a WorkerRow> for WorkerJson<'a> {
    fn from(worker: &'a WorkerRow) -> Self {
        Self {
            name: &worker.name,
            session: worker.session,
            slots: worker.slots,
            leased: worker.leased,
            draining: worker.draining,
            circuit: super::json_words::circuit_state(worker.circuit()),
            circuit_reason: &worker.circuit_reason,
            circuit_left_ms: (worker.circuit() == CircuitState::Open).then_some(worker.circuit_left_ms),
            quarantined: worker.quarantined,
            quarantine_reason: &worker.quarantine_reason,
            doubted: worker.doubted,
            labels: worker.labels.iter().map(|label| (label.key.as_str(), label.value.as_str())).collect(),
            resources: worker.resources.iter().map(|resource| (resource.name.as_str(), resource.amount)).collect(),
        }
    }
}

/// State of a coordinator.
#[derive(Serialize)]
pub(crate) struct StatusJson<'a> {
    /// False when nobody hosts and the data was read from disk.
    hosted: bool,
    version: &'a str,
    pid: Option<u32>,
    node: &'a str,
    leader: bool,
    term: u64,
    last_log_index: u64,
    applied_index: u64,
    snapshot_index: u64,
    live_runs: u32,
    slots: u32,
    /// Workers that are quarantined or whose circuit is not closed, connected (session above 0) or not.
    circuits: Vec<WorkerJson<'a>>,
    load: LoadJson<'a>,
}

/// How much is left to the node that was asked; null where nobody hosts.
#[derive(Debug, Serialize)]
struct LoadJson<'a> {
    level: Option<&'static str>,
    /// What led to it.
    reason: &'a str,
    /// Null where it could not be read.
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_reserve_bytes: Option<u64>,
    /// Requests refused because of the load since the node was started.
    refused: u64,
}

impl<'a> LoadJson<'a> {
    fn new(status: &'a StatusReply) -> Self {
        let known = |bytes: u64| (bytes > 0).then_some(bytes);
        let disk = known(status.disk_reserve_bytes);
        Self {
            level: super::json_words::load_level(status.level()),
            reason: &status.level_reason,
            memory_bytes: known(status.memory_bytes),
            memory_limit_bytes: known(status.memory_limit_bytes),
            disk_free_bytes: disk.map(|_| status.disk_free_bytes),
            disk_reserve_bytes: disk,
            refused: status.refused,
        }
    }
}

impl<'a> StatusJson<'a> {
    /// From a reply.
    pub(crate) fn new(status: &'a StatusReply, hosted: bool) -> Self {
        Self {
            hosted,
            version: &status.version,
            pid: (status.pid > 0).then_some(status.pid),
            node: &status.node,
            leader: status.leader,
            term: status.term,
            last_log_index: status.last_log_index,
            applied_index: status.applied_index,
            snapshot_index: status.snapshot_index,
            live_runs: status.live_runs,
            slots: status.slots,
            circuits: status.circuits.iter().map(WorkerJson::from).collect(),
            load: LoadJson::new(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Serialize)]
    struct Body<'a> {
        text: &'a str,
    }

    fn line(text: &str) -> String {
        let mut out = Vec::new();
        write_line(&mut out, "test", Body { text }).expect("memory takes everything");
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    proptest! {
        #[test]
        fn strings_come_back_exactly_and_no_line_can_hurt_a_terminal(text in "(\\PC|\\x1b|\u{9b}|\u{202e}|\u{e0041}|\n|\"|.){0,30}") {
            let line = line(&text);
            let back: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
            prop_assert_eq!(back["text"].as_str(), Some(text.as_str()));
            prop_assert!(!line.trim_end().chars().any(is_unsafe), "{:?}", line);
        }
    }

    #[test]
    fn what_a_framework_says_of_an_attempt_stands_in_its_detail() {
        let mut detail = TestDetail { phase: "setup".into(), file: "t/a.py".into(), line: 3, ..Default::default() };
        detail.set_expectation(Expectation::Xpassed);
        detail.properties.push(muster_proto::v1::KeyValue { key: "k".into(), value: "v".into() });
        let json = serde_json::to_string(&DetailJson::from(&detail)).expect("it is plain data");
        let expected = r#"{"phase":"setup","file":"t/a.py","line":3,"expectation":"xpassed","properties":[["k","v"]]}"#;
        assert_eq!(json, expected);
        let json = serde_json::to_string(&DetailJson::from(&TestDetail::default())).expect("it is plain data");
        assert_eq!(json, r#"{"phase":null,"file":null,"line":null,"expectation":null,"properties":[]}"#);
    }

    #[test]
    fn every_line_has_a_version_and_a_type_first() {
        assert_eq!(line("x"), "{\"v\":1,\"type\":\"test\",\"text\":\"x\"}\n");
    }
}
