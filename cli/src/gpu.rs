//! The GPU path, where the tool was built with it.

use crate::args::{GpuFlag, SearchFlags};
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

/// Opens the GPU that the flags of a search ask for, if they do.
pub(crate) fn open_to_search(flags: &SearchFlags) -> Result<Option<Gpu>, Failure> {
    if flags.gpu.name.is_some() && flags.rerank_from.is_some() {
        return Err(Failure::usage("--rerank-from is for searches without --gpu"));
    }
    open(&flags.gpu)
}

/// Opens the GPU that is asked for, if one is.
pub(crate) fn open(flag: &GpuFlag) -> Result<Option<Gpu>, Failure> {
    flag.name.as_ref().map(|name| Gpu::open(name.as_deref())).transpose()
}

#[cfg(feature = "gpu")]
mod with {
    use nonius::{Accelerator, Index, MatrixView, Neighbor, SearchParams, SearchStats};
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

        pub(crate) fn accelerator(&self) -> &dyn Accelerator {
            &self.0
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
    use nonius::{Accelerator, Index, MatrixView, Neighbor, SearchParams, SearchStats};

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

        pub(crate) fn accelerator(&self) -> &dyn Accelerator {
            match *self {}
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
