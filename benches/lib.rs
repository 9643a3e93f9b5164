//! Shared helpers of the benchmarks.

pub mod cases;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// A pool of so many threads.
///
/// # Panics
/// If the system gives no threads.
pub fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("the system gives threads")
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
