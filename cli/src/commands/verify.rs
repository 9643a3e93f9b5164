//! `nonius verify`: checks every byte of an index file against its checksums.

use std::path::PathBuf;

use clap::Args;

use crate::args::Threads;
use crate::files::open_index;
use crate::output::{Context, Failure, Output};
use crate::progress::Bars;

/// Check every byte of an index file against its checksums.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Index file
    index: PathBuf,

    #[command(flatten)]
    pub(crate) threads: Threads,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let index = open_index(&args.index)?;
    let mut bars = Bars::new();
    let mut show = |done, total| bars.show("verifying", done, total);
    let report = index.verify_with(&mut show).context(args.index.display())?;
    bars.clear();
    let text = format!("ok: {} sections, {} bytes", report.sections, report.bytes);
    Output::new(&None).text(text)
}
