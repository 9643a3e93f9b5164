//! The command-line tool of Nonius: builds, searches, measures and checks index files.
//!
//! It is a library so that its reading of arguments can be tested without a process for each; the
//! program is [`main`].

mod answer;
mod args;
mod chart;
mod commands;
mod files;
mod gpu;
mod harness;
mod output;
mod progress;
mod report;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::output::Failure;

/// The program: runs the command that the process was given.
///
/// Exit codes: 0 for success, 1 for a failure, 2 for wrong use, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Reads a command line, of which the first word is the program's name, and runs nothing.
///
/// # Errors
/// What the program would say, which is the help where that is asked for.
pub fn check_arguments(words: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    match cli.command {
        // The one command whose flags have to agree beyond what the parser sees.
        Command::Build(args) => args.config().map(drop).map_err(|failure| match failure {
            Failure::Usage(message) | Failure::Failed(message) => message,
            other => format!("{other:?}"),
        }),
        _ => Ok(()),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    args::check_simd_level()?;
    match cli.command {
        Command::Demo(args) => args.threads.run(|| commands::demo::run(&args)),
        Command::Build(args) => args.threads.run(|| commands::build::run(&args)),
        Command::Search(args) => args.threads.run(|| commands::search::run(&args)),
        Command::Eval(args) => args.threads.run(|| commands::eval::run(&args)),
        Command::Quality(args) => args.threads.run(|| commands::quality::run(&args)),
        Command::Truth(args) => args.threads.run(|| commands::truth::run(&args)),
        Command::Info(args) => commands::info::run(&args),
        Command::Verify(args) => args.threads.run(|| commands::verify::run(&args)),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Gpus(args) => commands::gpus::run(&args),
    }
}
