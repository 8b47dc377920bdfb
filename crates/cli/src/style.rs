//! What the terminal can show: whether it is one, colours, width. Decided once, from arguments and environment.

use std::ffi::OsStr;
use std::io::IsTerminal;

use crate::limits::{COLUMNS_DEFAULT, COLUMNS_MIN};

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set; elsewhere only with CLICOLOR_FORCE
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What one output stream can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Lines may be redrawn.
    pub(crate) live: bool,
    /// How to colour.
    pub(crate) style: Style,
    /// Columns, or `None` where lines have no end.
    pub(crate) columns: Option<usize>,
}

impl Screen {
    /// Looks at standard output and the environment.
    pub(crate) fn of_stdout(choice: ColorChoice) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let term = std::env::var_os("TERM");
        let facts = Facts {
            terminal,
            dumb: term.is_none_or(|term| term.is_empty() || term == "dumb"),
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            force: std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| forces(&value)),
        };
        let columns = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        Self::decide(choice, facts, columns)
    }

    fn decide(choice: ColorChoice, facts: Facts, columns: Option<usize>) -> Self {
        let colour = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if facts.no_color => false,
            ColorChoice::Auto => facts.force || (facts.terminal && !facts.dumb),
        };
        let columns = facts.terminal.then(|| columns.unwrap_or(COLUMNS_DEFAULT).max(COLUMNS_MIN));
        Self { live: facts.terminal && !facts.dumb, style: Style { colour }, columns }
    }

    /// A screen without any ability, as a file is.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { live: false, style: Style { colour: false }, columns: None }
    }
}

fn forces(value: &OsStr) -> bool {
    !value.is_empty() && value != "0"
}

#[derive(Clone, Copy)]
struct Facts {
    terminal: bool,
    dumb: bool,
    no_color: bool,
    force: bool,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether SGR sequences are written at all.
    pub(crate) colour: bool,
}

impl Style {
    fn paint(self, codes: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{codes}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For what failed.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For what passed.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what wants attention without having failed.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For what names a thing.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what may be skipped when reading.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Facts = Facts { terminal: false, dumb: false, no_color: false, force: false };
    const TERMINAL: Facts = Facts { terminal: true, ..PIPE };

    fn colour(choice: ColorChoice, facts: Facts) -> bool {
        Screen::decide(choice, facts, None).style.colour
    }

    #[test]
    fn colours_follow_terminal_and_environment_and_the_argument_wins() {
        assert!(colour(ColorChoice::Auto, TERMINAL));
        assert!(!colour(ColorChoice::Auto, PIPE));
        assert!(!colour(ColorChoice::Auto, Facts { no_color: true, ..TERMINAL }));
        assert!(!colour(ColorChoice::Auto, Facts { dumb: true, ..TERMINAL }));
        assert!(colour(ColorChoice::Auto, Facts { force: true, ..PIPE }));
        assert!(!colour(ColorChoice::Auto, Facts { force: true, no_color: true, ..PIPE }), "NO_COLOR wins");
        assert!(colour(ColorChoice::Always, Facts { no_color: true, ..PIPE }));
        assert!(!colour(ColorChoice::Never, Facts { force: true, ..TERMINAL }));
    }

    #[test]
    fn only_a_terminal_that_moves_its_cursor_is_live_and_only_terminals_have_a_width() {
        assert!(Screen::decide(ColorChoice::Never, TERMINAL, Some(100)).live);
        assert!(!Screen::decide(ColorChoice::Always, Facts { dumb: true, ..TERMINAL }, Some(100)).live);
        assert!(!Screen::decide(ColorChoice::Always, PIPE, Some(100)).live);
        assert_eq!(Screen::decide(ColorChoice::Auto, PIPE, Some(100)).columns, None);
        assert_eq!(Screen::decide(ColorChoice::Auto, TERMINAL, None).columns, Some(COLUMNS_DEFAULT));
        assert_eq!(Screen::decide(ColorChoice::Auto, TERMINAL, Some(0)).columns, Some(COLUMNS_MIN));
    }

    #[test]
    fn clicolor_force_of_zero_forces_nothing() {
        assert!(!forces(OsStr::new("0")) && !forces(OsStr::new("")) && forces(OsStr::new("1")));
    }
}
