//! Shared helpers of the benchmarks.

pub mod cases;

use std::collections::HashMap;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Files, and options by name.
pub type Arguments = (Vec<String>, HashMap<String, String>);

/// A pool of so many threads.
///
/// # Panics
/// If the system gives no threads.
pub fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("the system gives threads")
}

/// What this program was started with: files, and options of `known` names with their values.
///
/// # Errors
/// A text, for an option of another name or without a value.
pub fn arguments(known: &[&str]) -> Result<Arguments, String> {
    let (mut files, mut options) = (Vec::new(), HashMap::new());
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.strip_prefix("--") {
            Some(name) => {
                if !known.contains(&name) {
                    return Err(format!("unknown option --{name}: expected {known:?}"));
                }
                let value = rest.next().ok_or_else(|| format!("--{name} needs a value"))?;
                options.insert(name.to_owned(), value);
            }
            None => files.push(argument),
        }
    }
    Ok((files, options))
}

/// True if this program was started to measure; false if only to see that it runs, as `cargo test` does,
/// where small sets will do.
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The quantile `q` (0 to 1) of measured values, which are sorted; NaN of none.
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (q * (values.len() as f64 - 1.0)).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}
