//! Options of a framework's own that muster cannot pass on.

/// An option, and why it is not passed on, or what to say instead.
pub(crate) type Refused = (&'static str, &'static str);

/// Whether `option`, which is written without its value, is none of these.
///
/// # Errors
/// A sentence for one that is.
pub(crate) fn refuse(option: &str, refused: &[Refused]) -> Result<(), String> {
    match refused.iter().find(|(refused, _)| *refused == option) {
        Some((option, why)) => Err(format!("{option} cannot be given to muster: {why}")),
        None => Ok(()),
    }
}
