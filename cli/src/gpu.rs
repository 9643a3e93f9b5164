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
    let opened = open(&flags.gpu)?;
    Ok(opened.map(|gpu| gpu.holding(flags.gpu_memory)))
}

/// Opens the GPU that is asked for, if one is.
pub(crate) fn open(flag: &GpuFlag) -> Result<Option<Gpu>, Failure> {
    flag.name.as_ref().map(|name| Gpu::open(name.as_deref())).transpose()
}

#[cfg(feature = "gpu")]
mod with {
    use nonius::{Accelerator, Index, MatrixView, Neighbor, SearchParams, SearchStats};
    use nonius_gpu::{GpuContext, GpuIndex, UploadOptions};

    use crate::output::{Context, Failure};

    pub(crate) use nonius_gpu::adapters;

    /// A device.
    pub(crate) struct Gpu {
        context: GpuContext,
        options: UploadOptions,
    }

    /// An index on a device.
    pub(crate) struct OnGpu<'a>(GpuIndex<'a>);

    impl Gpu {
        pub(crate) fn open(name: Option<&str>) -> Result<Gpu, Failure> {
            let context = GpuContext::new(name).context("")?;
            Ok(Gpu { context, options: UploadOptions::default() })
        }

        /// With at most so many MiB of an index's codes on it.
        pub(crate) fn holding(mut self, mib: Option<u64>) -> Gpu {
            self.options.memory_bytes = mib.map(|mib| mib.saturating_mul(1 << 20));
            self
        }

        pub(crate) fn accelerator(&self) -> &dyn Accelerator {
            &self.context
        }

        pub(crate) fn upload<'a>(&'a self, index: &'a Index) -> Result<OnGpu<'a>, Failure> {
            GpuIndex::upload_with(&self.context, index, &self.options).map(OnGpu).context("")
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

        pub(crate) fn holding(self, _: Option<u64>) -> Gpu {
            self
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
