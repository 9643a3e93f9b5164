//! The GPU path, where the tool was built with it.

use crate::args::SearchFlags;
use crate::output::Failure;

#[cfg(feature = "gpu")]
pub(crate) use with::{Gpu, OnGpu, adapters};
#[cfg(not(feature = "gpu"))]
pub(crate) use without::{Gpu, OnGpu};

/// What a tool without the feature says.
#[cfg(not(feature = "gpu"))]
pub(crate) fn missing() -> Failure {
    Failure::usage("this tool was built without the GPU path: build it with --features gpu")
}

/// Opens the GPU that the flags ask for, if they do.
pub(crate) fn open(flags: &SearchFlags) -> Result<Option<Gpu>, Failure> {
    let Some(name) = &flags.gpu else { return Ok(None) };
    if flags.rerank_from.is_some() {
        return Err(Failure::usage("--rerank-from is for searches without --gpu"));
    }
    Gpu::open(name.as_deref()).map(Some)
}

#[cfg(feature = "gpu")]
mod with {
    use nonius::{Index, MatrixView, Neighbor, SearchParams, SearchStats};
    use nonius_gpu::{GpuContext, GpuIndex};

    use crate::output::{Context, Failure};

    pub(crate) use nonius_gpu::adapters;

    /// A device.
    pub(crate) struct Gpu(GpuContext);

    /// An index on a device.
    pub(crate) struct OnGpu<'a>(GpuIndex<'a>);

    impl Gpu {
        pub(crate) fn open(name: Option<&str>) -> Result<Gpu, Failure> {
            GpuContext::new(name).map(Gpu).context("")
        }

        pub(crate) fn upload<'a>(&'a self, index: &'a Index) -> Result<OnGpu<'a>, Failure> {
            GpuIndex::upload(&self.0, index).map(OnGpu).context("")
        }
    }

    impl OnGpu<'_> {
        pub(crate) fn search(
            &self,
            queries: MatrixView<'_>,
            k: usize,
            params: &SearchParams,
        ) -> Result<(Vec<Vec<Neighbor>>, SearchStats), Failure> {
            let (found, timings) = self.0.search_batch_timed(queries, k, params).context("")?;
            Ok((found, timings.stats))
        }
    }
}

#[cfg(not(feature = "gpu"))]
mod without {
    use nonius::{Index, MatrixView, Neighbor, SearchParams, SearchStats};

    use crate::output::Failure;

    /// There is none.
    pub(crate) enum Gpu {}

    /// There is none.
    pub(crate) enum OnGpu<'a> {
        #[expect(dead_code, reason = "takes the lifetime that the other one has")]
        None(std::convert::Infallible, &'a ()),
    }

    impl Gpu {
        pub(crate) fn open(_: Option<&str>) -> Result<Gpu, Failure> {
            Err(super::missing())
        }

        pub(crate) fn upload<'a>(&'a self, _: &'a Index) -> Result<OnGpu<'a>, Failure> {
            match *self {}
        }
    }

    impl OnGpu<'_> {
        pub(crate) fn search(
            &self,
            _: MatrixView<'_>,
            _: usize,
            _: &SearchParams,
        ) -> Result<(Vec<Vec<Neighbor>>, SearchStats), Failure> {
            Err(super::missing())
        }
    }
}
