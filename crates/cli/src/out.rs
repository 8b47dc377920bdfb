//! Standard output and standard error of commands that print and end. A reader that went away ends the command
//! quietly; nothing here panics.

use std::io::{self, Write};

use serde::Serialize;

use crate::exit_code::Failure;
use crate::report::json;
use crate::report::sanitise;

/// Writes text to standard output.
///
/// # Errors
/// When it cannot be written; without a message when its reader went away.
pub(crate) fn put(text: &str) -> Result<(), Failure> {
    put_bytes(text.as_bytes())
}

/// Writes bytes to standard output, and sees that they leave.
///
/// # Errors
/// As [`put`].
pub(crate) fn put_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Writes one JSON object with its version and type.
///
/// # Errors
/// As [`put`].
pub(crate) fn put_json(kind: &str, body: impl Serialize) -> Result<(), Failure> {
    json::write_line(&mut io::stdout().lock(), kind, body).map_err(|error| Failure::output(&error))
}

/// Writes a message to standard error. Where even that cannot be written, nobody is there to be told.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "muster: {}", sanitise::paragraph(text));
}
