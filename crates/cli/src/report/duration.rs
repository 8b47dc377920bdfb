//! Durations as people read and write them.

use std::time::Duration;

/// A duration with about three digits: `0.004 s`, `1.23 s`, `12.3 s`, `2 m 05 s`, `1 h 02 m`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        return format!("{seconds:.3} s");
    }
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        ..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
    }
}

/// As [`show`], of microseconds.
pub(crate) fn show_us(us: u64) -> String {
    show(Duration::from_micros(us))
}

/// A whole number of seconds for what changes while it is read: `7 s`, `2 m 05 s`.
pub(crate) fn show_coarse(duration: Duration) -> String {
    if duration.as_secs() < 60 { format!("{} s", duration.as_secs()) } else { show(duration) }
}

/// Reads what a user writes: `500ms`, `30s`, `1m 30s`, `2h`; a number alone is seconds.
///
/// # Errors
/// A sentence fit for a usage error.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    let duration = duration.map_err(|error| format!("{error}; write 500ms, 30s, 5m or 1h30m"))?;
    if duration.is_zero() {
        return Err("zero is no limit; leave the option out for none".into());
    }
    if duration.as_millis() < 1 {
        return Err("is less than a millisecond".into());
    }
    if duration > Duration::from_secs(366 * 24 * 3600) {
        return Err("is more than a year".into());
    }
    Ok(duration)
}

/// As [`parse`], but zero is allowed: for a grace period, where it means "at once".
///
/// # Errors
/// A sentence fit for a usage error.
pub(crate) fn parse_or_zero(text: &str) -> Result<Duration, String> {
    if matches!(text.trim(), "0" | "0s" | "0ms") { Ok(Duration::ZERO) } else { parse(text) }
}

/// Milliseconds of a duration that `parse` has accepted.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_never_round_up_into_a_strange_form() {
        let shown: Vec<_> = [4, 999, 1_000, 1_234, 9_994, 9_996, 12_345, 59_940, 59_960, 125_000, 3_599_999, 3_720_000]
            .into_iter()
            .map(|ms| show(Duration::from_millis(ms)))
            .collect();
        assert_eq!(
            shown,
            [
                "0.004 s", "0.999 s", "1.00 s", "1.23 s", "9.99 s", "10.0 s", "12.3 s", "59.9 s", "1 m 00 s",
                "2 m 05 s", "1 h 00 m", "1 h 02 m"
            ]
        );
        assert_eq!(show_coarse(Duration::from_millis(7_900)), "7 s");
    }

    #[test]
    fn a_number_alone_is_seconds_and_nonsense_is_refused_with_an_example() {
        assert_eq!(parse("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "x", "-1", "inf", "nan", "0", "0s", "1e300", "400d", "1us"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_or_zero("0"), Ok(Duration::ZERO));
        assert!(parse("soon").is_err_and(|error| error.contains("30s")));
    }
}
