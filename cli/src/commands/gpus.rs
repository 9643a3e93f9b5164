//! `nonius gpus`: the adapters that there are, with their limits.

use std::path::PathBuf;

use clap::Args;

use crate::output::Failure;

/// List the GPUs of this machine, and software that acts as one, with their limits.
///
/// Needs a tool built with the feature `gpu`.
#[derive(Debug, Args)]
pub(crate) struct GpusArgs {
    /// Write a report as JSON; - for stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[cfg(not(feature = "gpu"))]
pub(crate) fn run(_: &GpusArgs) -> Result<(), Failure> {
    Err(crate::gpu::missing())
}

#[cfg(feature = "gpu")]
pub(crate) fn run(args: &GpusArgs) -> Result<(), Failure> {
    use crate::output::{Output, Table};

    #[derive(serde::Serialize)]
    struct Gpu {
        name: String,
        kind: &'static str,
        backend: String,
        driver: String,
        binding_bytes: u64,
        buffer_bytes: u64,
        workgroup_bytes: u32,
        subgroups: (u32, u32),
        timestamps: bool,
    }

    let out = Output::new(&args.json);
    let adapters = crate::gpu::adapters();
    let mut table =
        Table::new(&["name", "kind", "by", "driver", "binds MiB", "workgroup KiB", "in step"]);
    for adapter in &adapters {
        table.row(vec![
            adapter.name.clone(),
            adapter.kind.to_owned(),
            adapter.backend.clone(),
            adapter.driver.clone(),
            (adapter.binding_bytes >> 20).to_string(),
            (adapter.workgroup_bytes >> 10).to_string(),
            adapter.subgroups.1.to_string(),
        ]);
    }
    match adapters.is_empty() {
        true => out.text("no GPU: no driver was found, nor software that acts as one")?,
        false => out.text(table)?,
    }
    let report: Vec<Gpu> = adapters
        .into_iter()
        .map(|adapter| Gpu {
            name: adapter.name,
            kind: adapter.kind,
            backend: adapter.backend,
            driver: adapter.driver,
            binding_bytes: adapter.binding_bytes,
            buffer_bytes: adapter.buffer_bytes,
            workgroup_bytes: adapter.workgroup_bytes,
            subgroups: adapter.subgroups,
            timestamps: adapter.timestamps,
        })
        .collect();
    out.json(&report)
}
