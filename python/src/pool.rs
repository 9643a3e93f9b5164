//! The threads that work is spread over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::errors::Failure;

/// The most threads that may be asked for: beyond it a typing error is likelier than a machine.
const MOST_THREADS: i64 = 4096;

/// Pools by process and number of threads.
///
/// By process, as a fork (which `multiprocessing` does) copies a pool without its threads: work given to
/// it would wait for ever. Pools are never dropped, as that would wait for these threads as well.
type Pools = Mutex<HashMap<(u32, Option<usize>), Arc<ThreadPool>>>;

static POOLS: OnceLock<Pools> = OnceLock::new();

/// The pool of so many threads; without a number of as many as there are processors, or as
/// `RAYON_NUM_THREADS` says.
pub(crate) fn pool(threads: Option<i64>) -> Result<Arc<ThreadPool>, Failure> {
    let threads = match threads {
        None => None,
        Some(threads @ 1..=MOST_THREADS) => Some(threads as usize),
        Some(found) => {
            let message = format!("expected 1 to {MOST_THREADS}, found {found}");
            return Err(Failure::config("threads", message));
        }
    };
    let pools = POOLS.get_or_init(Pools::default);
    let mut pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (std::process::id(), threads);
    if let Some(pool) = pools.get(&key) {
        return Ok(pool.clone());
    }
    let pool = ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
    let pool = Arc::new(pool.map_err(|error| -> PyErr {
        PyOSError::new_err(format!("starting the threads: {error}"))
    })?);
    pools.insert(key, pool.clone());
    Ok(pool)
}
