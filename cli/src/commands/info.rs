//! `nonius info`: what an index file is.

use std::path::PathBuf;

use clap::Args;
use nonius::IndexInfo;
use serde::Serialize;

use crate::files::open_index;
use crate::output::{Failure, Output, Table};
use crate::report::{PlanSegment, PlanText, human_bytes, plan};

/// Show what an index file holds.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Index file
    index: PathBuf,

    /// Write a report as JSON; - for stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct InfoJson {
    version: u32,
    vectors: usize,
    dim: usize,
    metric: &'static str,
    quantizer: String,
    bits: f64,
    nlist: usize,
    smallest_list: usize,
    largest_list: usize,
    spilled: usize,
    outliers: usize,
    keep: &'static str,
    bytes_per_vector: f64,
    code_bytes: usize,
    first_stage_bits: usize,
    file_bytes: u64,
    plan: Vec<PlanSegment>,
    sections: Vec<SectionJson>,
}

#[derive(Debug, Serialize)]
struct SectionJson {
    name: &'static str,
    offset: u64,
    bytes: u64,
}

pub(crate) fn run(args: &InfoArgs) -> Result<(), Failure> {
    let out = Output::new(&args.json);
    let info = open_index(&args.index)?.info();
    out.text(facts(&info))?;
    out.text("")?;
    let mut sections = Table::new(&["section", "offset", "bytes"]);
    for (name, offset, bytes) in &info.sections {
        sections.row(vec![name.to_string(), offset.to_string(), bytes.to_string()]);
    }
    out.text(sections)?;
    out.json(&json(&info))
}

fn facts(info: &IndexInfo) -> Table {
    let (smallest, largest) = info.list_sizes;
    let mut table = Table::facts();
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row("format", format!("version {}, {}", info.version, human_bytes(info.file_bytes)));
    row("vectors", format!("{} x {}, {}", info.vectors, info.dim, info.metric));
    row("quantizer", info.quantizer.to_string());
    row("plan", PlanText(&info.plan).to_string());
    row("lists", format!("{}, of {smallest} to {largest} vectors", info.nlist));
    if info.spilled > 0 {
        row("second lists", format!("{} vectors", info.spilled));
    }
    if info.outliers > 0 {
        row("outliers", format!("{} vectors, kept whole", info.outliers));
    }
    row("bytes a vector", format!("{:.1} (f32: {})", info.bytes_per_vector, 4 * info.dim));
    row("codes and factors", format!("{} bytes", info.code_bytes));
    row("first stage", format!("{} bits", info.first_stage_bits));
    row("kept vectors", info.keep.to_string());
    table
}

fn json(info: &IndexInfo) -> InfoJson {
    InfoJson {
        version: info.version,
        vectors: info.vectors,
        dim: info.dim,
        metric: info.metric.name(),
        quantizer: info.quantizer.to_string(),
        bits: info.quantizer.bits(info.dim),
        nlist: info.nlist,
        smallest_list: info.list_sizes.0,
        largest_list: info.list_sizes.1,
        spilled: info.spilled,
        outliers: info.outliers,
        keep: info.keep.name(),
        bytes_per_vector: info.bytes_per_vector,
        code_bytes: info.code_bytes,
        first_stage_bits: info.first_stage_bits,
        file_bytes: info.file_bytes,
        plan: plan(&info.plan),
        sections: info
            .sections
            .iter()
            .map(|&(name, offset, bytes)| SectionJson { name, offset, bytes })
            .collect(),
    }
}
