//! What the tool says: text and JSON on stdout, failures on stderr.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nonius::BuildError;
use nonius_datasets::{DatasetError, TruthError};
use serde::Serialize;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong use: exit code 2.
    Usage(String),
    /// Something failed: exit code 1.
    Failed(String),
    /// Ctrl-C: exit code 130, as shells do.
    Cancelled,
    /// Whoever read stdout has gone, which is no failure: `nonius eval ... | head -3`.
    StdoutClosed,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::Failed(message.into())
    }

    /// A failure with what was being done, unless the error says so itself, and all its causes.
    pub(crate) fn new(context: impl fmt::Display, error: &dyn Error) -> Failure {
        let (mut message, context) = (chain(error), context.to_string());
        if !context.is_empty() && !message.contains(&context) {
            message = format!("{context}: {message}");
        }
        Failure::Failed(message)
    }

    /// Writes the message to stderr and tells the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Failure::Usage(message) => (message, 2),
            Failure::Failed(message) => (message, 1),
            Failure::Cancelled => ("cancelled".to_owned(), 130),
            Failure::StdoutClosed => return ExitCode::SUCCESS,
        };
        // Nobody is left to tell if stderr is gone too.
        let _ = writeln!(io::stderr(), "error: {message}");
        ExitCode::from(code)
    }
}

/// An error and its causes. Many errors quote their cause; those are not said twice.
fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            let _ = write!(message, ": {text}");
        }
        cause = error.source();
    }
    message
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Failure {
        match error {
            DatasetError::Cancelled => Failure::Cancelled,
            error => Failure::new("", &error),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        match error {
            BuildError::Cancelled => Failure::Cancelled,
            BuildError::Config(error) => Failure::usage(chain(&error)),
            error => Failure::new("", &error),
        }
    }
}

impl From<TruthError> for Failure {
    fn from(error: TruthError) -> Failure {
        match error {
            TruthError::Cancelled => Failure::Cancelled,
            error => Failure::new("", &error),
        }
    }
}

/// Adds what was being done to an error.
pub(crate) trait Context<T> {
    /// The value, or a failure that starts with `context`, such as a path, unless the error
    /// itself names it.
    fn context(self, context: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Error> Context<T> for Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(context, &error))
    }
}

/// Where a command's results go: text to stdout, and JSON where `--json` says.
pub(crate) struct Output<'a> {
    json: Option<&'a Path>,
}

/// The name that stands for stdout.
const STDOUT: &str = "-";

impl<'a> Output<'a> {
    pub(crate) fn new(json: &'a Option<PathBuf>) -> Output<'a> {
        Output { json: json.as_deref() }
    }

    /// Prints for people, unless stdout belongs to the JSON.
    pub(crate) fn text(&self, text: impl fmt::Display) -> Result<(), Failure> {
        if self.json == Some(Path::new(STDOUT)) {
            return Ok(());
        }
        print(&format!("{text}\n"))
    }

    /// Writes the report where `--json` says, if it was given.
    pub(crate) fn json(&self, report: &impl Serialize) -> Result<(), Failure> {
        let Some(path) = self.json else { return Ok(()) };
        let mut text = serde_json::to_string_pretty(report).context("writing the JSON")?;
        text.push('\n');
        if path == Path::new(STDOUT) {
            print(&text)
        } else {
            std::fs::write(path, text).context(path.display())
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::StdoutClosed),
        Err(error) => Err(Failure::new("stdout", &error)),
    }
}

/// A table with aligned columns: numbers to the right, words to the left.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// A table of names and values, without a header.
    pub(crate) fn facts() -> Table {
        Table::new(&["", ""])
    }

    /// Appends a row with as many cells as the header has.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let is_number = |cell: &String| cell.parse::<f64>().is_ok();
        let right = |column: usize| self.rows[1..].iter().all(|row| is_number(&row[column]));
        let layout: Vec<(usize, bool)> = (0..columns).map(|c| (width(c), right(c))).collect();
        let first = usize::from(self.rows[0].iter().all(String::is_empty));
        for (number, row) in self.rows.iter().enumerate().skip(first) {
            let mut line = String::new();
            for (cell, &(width, right)) in row.iter().zip(&layout) {
                let gap = if line.is_empty() { "" } else { "  " };
                if right {
                    let _ = write!(line, "{gap}{cell:>width$}");
                } else {
                    let _ = write!(line, "{gap}{cell:<width$}");
                }
            }
            let end = if number + 1 < self.rows.len() { "\n" } else { "" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_numbers_right_and_words_left() {
        let mut table = Table::new(&["name", "count", "x"]);
        table.row(vec!["a".into(), "7".into(), "1.5".into()]);
        table.row(vec!["longer".into(), "12345678".into(), "-2.25".into()]);
        let expected = "name       count      x\n\
                        a              7    1.5\n\
                        longer  12345678  -2.25";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn causes_are_said_once() {
        let inner = io::Error::other("the disk is on fire");
        let error = nonius::OpenError::Io { path: "a.nonius".into(), source: inner };
        assert_eq!(chain(&error), "a.nonius: the disk is on fire");
        let Failure::Failed(message) = Failure::new("a.nonius", &error) else { panic!() };
        assert_eq!(message, "a.nonius: the disk is on fire");
        let error = nonius::OpenError::Magic { found: *b"notours!" };
        let Failure::Failed(message) = Failure::new("b.nonius", &error) else { panic!() };
        assert!(message.starts_with("b.nonius: not a Nonius index"), "{message}");
    }
}
