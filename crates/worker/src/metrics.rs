//! Figures that a test writes to `$MUSTER_METRICS`: lines of `NAME VALUE [UNIT]`.
//!
//! What is wrong in the file never changes an attempt's outcome; it is said in the attempt's message.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use muster_frameworks::printable;
use muster_proto::limits::{METRIC_NAME_BYTES_MAX, METRICS_MAX};
use muster_proto::v1::Metric;

use crate::limits::{METRICS_BAD_LINES_QUOTED_MAX, METRICS_READ_BYTES_MAX};

/// What a metrics file says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Metrics {
    pub(crate) metrics: Vec<Metric>,
    /// What is wrong with it, for people; empty if nothing is.
    pub(crate) problem: String,
    /// There is a file.
    pub(crate) present: bool,
}

/// Reads the metrics of one attempt. No file is the usual case.
pub(crate) fn read(path: &Path) -> Metrics {
    let wrong = |text: String| Metrics { problem: format!("metrics: {text}"), present: true, ..Default::default() };
    // A test can put anything there, also a pipe that nobody writes to.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Metrics::default(),
        Err(error) => return wrong(error.to_string()),
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return wrong("not a file".into()),
        Err(error) => return wrong(error.to_string()),
    }
    let mut text = Vec::new();
    match file.take(METRICS_READ_BYTES_MAX + 1).read_to_end(&mut text) {
        Ok(_) => parse(&text),
        Err(error) => wrong(error.to_string()),
    }
}

fn parse(text: &[u8]) -> Metrics {
    let cut = text.len() as u64 > METRICS_READ_BYTES_MAX;
    let whole = if cut { &text[..text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0)] } else { text };
    let (mut metrics, mut bad, mut quoted) = (Vec::new(), 0usize, Vec::new());
    for (index, line) in whole.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        match metric(line) {
            _ if line.is_empty() => {}
            Some(metric) => metrics.push(metric),
            None => {
                bad += 1;
                if quoted.len() < METRICS_BAD_LINES_QUOTED_MAX {
                    quoted.push(format!("line {}: '{}'", index + 1, printable(&line[..line.len().min(60)])));
                }
            }
        }
    }
    let mut problems = Vec::new();
    if bad > 0 {
        problems.push(format!("{bad} not of the form NAME VALUE [UNIT] ({})", quoted.join(", ")));
    }
    if metrics.len() > METRICS_MAX {
        problems.push(format!("{} of them, the first {METRICS_MAX} are kept", metrics.len()));
        metrics.truncate(METRICS_MAX);
    }
    if cut {
        problems.push(format!("more than {METRICS_READ_BYTES_MAX} bytes, the rest is not read"));
    }
    let problem = if problems.is_empty() { String::new() } else { format!("metrics: {}", problems.join("; ")) };
    Metrics { metrics, problem, present: true }
}

fn metric(line: &[u8]) -> Option<Metric> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (name, value, unit) = (words.next()?, words.next()?, words.next().unwrap_or(""));
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
    let fits = name.len() <= METRIC_NAME_BYTES_MAX && unit.len() <= METRIC_NAME_BYTES_MAX;
    let clean = |text: &str| printable(text.as_bytes()) == text;
    let good = fits && words.next().is_none() && clean(name) && clean(unit);
    good.then(|| Metric { name: name.to_owned(), value, unit: unit.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Metrics {
        parse(text.as_bytes())
    }

    #[test]
    fn names_values_and_units_are_kept() {
        let found = parsed("rps 12.5 req/s\n\n  count\t3  \r\nneg -1e3 ms");
        let metric = |name: &str, value, unit: &str| Metric { name: name.into(), value, unit: unit.into() };
        assert_eq!(
            found.metrics,
            [metric("rps", 12.5, "req/s"), metric("count", 3.0, ""), metric("neg", -1000.0, "ms")]
        );
        assert_eq!(found.problem, "");
    }

    #[test]
    fn bad_lines_are_quoted_and_the_good_ones_kept() {
        let found = parsed("a 1\nb\nc nan\nd 1 2 3\ne \x1b[31m\nf 2");
        assert_eq!(found.metrics.len(), 2);
        assert!(
            found.problem.contains("4 not of the form") && found.problem.contains("line 2: 'b'"),
            "{}",
            found.problem
        );
        assert!(!found.problem.contains('\x1b'), "{}", found.problem);
    }

    #[test]
    fn too_many_and_too_much_is_cut_and_said() {
        let many: String = (0..100).map(|n| format!("m{n} {n}\n")).collect();
        let found = parsed(&many);
        assert_eq!(found.metrics.len(), METRICS_MAX);
        assert!(found.problem.contains("100 of them"), "{}", found.problem);
        let long: String = (0..2_000).map(|n| format!("metric{n} {n}\n")).collect();
        let found = parsed(&long);
        assert!(found.problem.contains("the rest is not read") && !found.problem.contains("form"), "{}", found.problem);
    }

    #[test]
    fn what_is_no_file_is_said_and_never_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(&dir.path().join("none")), Metrics::default());
        assert!(read(dir.path()).problem.contains("not a file"));
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
        assert!(read(&fifo).problem.contains("not a file"));
    }
}
