//! The program `nonius`; all of it is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    nonius_cli::main()
}
