//! The command-line tool of Nonius: builds, searches, measures and checks index files.
//!
//! Exit codes: 0 for success, 1 for a failure, 2 for wrong use, 130 after Ctrl-C.

mod answer;
mod args;
mod chart;
mod commands;
mod files;
mod output;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::output::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
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
    }
}
