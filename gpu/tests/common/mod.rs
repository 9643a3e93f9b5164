//! What the tests of this crate share.

use std::sync::OnceLock;

use nonius_gpu::{GpuContext, GpuError, adapters};

/// The device that tests run on: the adapter that `NONIUS_GPU` names, else a GPU, else software.
///
/// There may be none: then tests end early, and say so. With `NONIUS_GPU_REQUIRE` set they fail, and if it is
/// `discrete`, they also fail without a discrete GPU.
pub(crate) fn context() -> Option<&'static GpuContext> {
    static CONTEXT: OnceLock<Result<GpuContext, GpuError>> = OnceLock::new();
    let context = CONTEXT.get_or_init(|| match std::env::var("NONIUS_GPU") {
        Ok(name) => GpuContext::new(Some(&name)),
        Err(_) => GpuContext::new(None).or_else(|error| {
            match adapters().into_iter().find(|adapter| adapter.is_software()) {
                Some(adapter) => GpuContext::new(Some(&adapter.name)),
                None => Err(error),
            }
        }),
    });
    let required = std::env::var("NONIUS_GPU_REQUIRE").ok();
    match context {
        Ok(context) => {
            let kind = context.adapter().kind;
            let fits = required.as_deref() != Some("discrete") || kind == "discrete";
            assert!(fits, "a discrete GPU is required, found {}", context.adapter().name);
            Some(context)
        }
        Err(error) => {
            assert!(required.is_none(), "an adapter is required: {error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}
