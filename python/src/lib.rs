//! Nonius for Python: the module `nonius._nonius`, which the package `nonius` shows the names of.
//!
//! Everything here is conversion: arrays in and out, errors to exceptions, progress and Ctrl-C. The lock of the
//! interpreter is released while the library works.

mod arrays;
mod builds;
mod errors;
mod index;
mod pool;
mod quantizers;
mod spec;

use pyo3::prelude::*;

#[pymodule]
fn _nonius(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<index::Index>()?;
    module.add_class::<quantizers::Saq>()?;
    module.add_class::<quantizers::SaqCodes>()?;
    module.add_class::<quantizers::Quantizer>()?;
    module.add_class::<quantizers::Codes>()?;
    Ok(())
}
