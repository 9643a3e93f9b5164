//! `nonius convert`: from one format of vectors to another.

use std::path::PathBuf;

use clap::Args;

use crate::output::{Failure, Output};
use crate::progress::Bars;

/// Convert a file of vectors to the format that the extension of OUTPUT tells.
///
/// Values keep their type where the output can hold it; a value that does not fit is an error.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// File of vectors
    input: PathBuf,

    /// File to write
    output: PathBuf,
}

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let mut bars = Bars::catching_interrupts()?;
    let mut show = |done, total| bars.show("converting", done, total);
    let rows = nonius_datasets::convert(&args.input, &args.output, &mut show)?;
    bars.clear();
    Output::new(&None).text(format_args!("{rows} rows"))
}
