//! The device: adapters, buffers, pipelines, and how work is recorded and read back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytemuck::Pod;

use crate::error::GpuError;
use crate::kernels::{Access, Kernel};

/// An adapter: a GPU, or software that acts as one.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// The interface that it is reached by: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// The most bytes of one buffer that a kernel can read: what codes are cut into.
    pub binding_bytes: u64,
    /// The most bytes of a buffer.
    pub buffer_bytes: u64,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// Threads that run in step, at least and at most.
    pub subgroups: (u32, u32),
    /// Whether it tells how long kernels take.
    pub timestamps: bool,
}

impl AdapterInfo {
    fn of(adapter: &wgpu::Adapter) -> AdapterInfo {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        AdapterInfo {
            name: info.name,
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Cpu => "software",
                wgpu::DeviceType::Other => "other",
            },
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            subgroups: (info.subgroup_min_size, info.subgroup_max_size),
            timestamps: adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY),
        }
    }

    /// True for software that acts as a GPU.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }

    /// The smaller, the rather it is taken.
    fn order(&self) -> usize {
        let kinds = ["discrete", "integrated", "virtual", "other", "software"];
        kinds.iter().position(|&kind| kind == self.kind).unwrap_or(kinds.len())
    }
}

fn all_adapters() -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle().with_env();
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

/// All adapters of this machine. The environment variable `WGPU_BACKEND` (`vulkan`, `metal`, `dx12`)
/// leaves others out.
pub fn adapters() -> Vec<AdapterInfo> {
    all_adapters().iter().map(AdapterInfo::of).collect()
}

/// What the device has reported beside results.
#[derive(Default)]
struct Reports {
    lost: OnceLock<String>,
    error: Mutex<Option<String>>,
}

/// A pipeline and the layout of its buffers.
pub(crate) struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// A device with its compiled kernels. Indexes are uploaded to it; one serves any number of them, from any
/// number of threads.
pub struct GpuContext {
    info: AdapterInfo,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) limits: wgpu::Limits,
    pipelines: Mutex<HashMap<Kernel, Arc<Pipeline>>>,
    /// Buffers for parameters that no recording has.
    uniforms: Mutex<Vec<wgpu::Buffer>>,
    reports: Arc<Reports>,
}

impl std::fmt::Debug for GpuContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuContext").field("adapter", &self.info).finish_non_exhaustive()
    }
}

/// What a lock holds, also when a thread has panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GpuContext {
    /// Opens the adapter whose name contains `name`, whatever the case of its letters; without a name the best
    /// GPU. Software that acts as a GPU is opened by name alone (`llvmpipe` is that of Mesa).
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::NoDevice`].
    pub fn new(name: Option<&str>) -> Result<GpuContext, GpuError> {
        let mut adapters: Vec<(AdapterInfo, wgpu::Adapter)> =
            all_adapters().into_iter().map(|a| (AdapterInfo::of(&a), a)).collect();
        adapters.sort_by_key(|(info, _)| info.order());
        let found = adapters
            .iter()
            .map(|(info, _)| format!("{} ({}, {})", info.name, info.kind, info.backend))
            .collect();
        let fits = |info: &AdapterInfo| match name {
            Some(name) => info.name.to_lowercase().contains(&name.to_lowercase()),
            None => !info.is_software(),
        };
        let Some((info, adapter)) = adapters.into_iter().find(|(info, _)| fits(info)) else {
            let wanted = match name {
                Some(name) => format!("an adapter named {name:?}"),
                None => "a GPU".to_owned(),
            };
            return Err(GpuError::NoAdapter { wanted, found });
        };
        let limits = adapter.limits();
        let mut features = wgpu::Features::empty();
        if info.timestamps {
            features |= wgpu::Features::TIMESTAMP_QUERY;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("nonius"),
            required_features: features,
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| {
                GpuError::NoDevice { adapter: info.name.clone(), message: error.to_string() }
            })?;
        let reports = Arc::new(Reports::default());
        let of_device = Arc::clone(&reports);
        device.set_device_lost_callback(move |reason, message| {
            // The first report counts.
            let _ = of_device.lost.set(format!("{reason:?} {message}"));
        });
        let of_device = Arc::clone(&reports);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&of_device.error).get_or_insert_with(|| error.to_string());
        }));
        Ok(GpuContext {
            info,
            device,
            queue,
            limits,
            pipelines: Mutex::default(),
            uniforms: Mutex::default(),
            reports,
        })
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.info
    }

    /// Whatever the device has reported since it was asked last.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        if let Some(message) = self.reports.lost.get() {
            return Err(GpuError::Lost { message: message.clone() });
        }
        match lock(&self.reports.error).take() {
            Some(message) => Err(GpuError::Device { message }),
            None => Ok(()),
        }
    }

    /// The most bytes of a buffer that a kernel can bind.
    pub(crate) fn binding_limit(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size)
    }

    /// A buffer for a kernel; its contents are zero.
    pub(crate) fn buffer(&self, what: &'static str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let limit = self.binding_limit();
        if bytes > limit {
            return Err(GpuError::TooLarge { what, bytes, limit });
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        self.allocate(what, bytes.next_multiple_of(16).max(16), usage)
    }

    fn allocate(
        &self,
        what: &'static str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.check()?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let descriptor =
            wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        match pollster::block_on(scope.pop()) {
            Some(_) => Err(GpuError::OutOfMemory { what, bytes: size }),
            None => Ok(buffer),
        }
    }

    /// A buffer with contents.
    pub(crate) fn filled<T: Pod>(
        &self,
        what: &'static str,
        values: &[T],
    ) -> Result<wgpu::Buffer, GpuError> {
        let buffer = self.buffer(what, size_of_val(values) as u64)?;
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
        Ok(buffer)
    }

    /// A compiled kernel.
    pub(crate) fn pipeline(&self, kernel: &Kernel) -> Result<Arc<Pipeline>, GpuError> {
        let mut pipelines = lock(&self.pipelines);
        if let Some(pipeline) = pipelines.get(kernel) {
            return Ok(Arc::clone(pipeline));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
        });
        let entries: Vec<_> = (0..)
            .zip(kernel.access())
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(kernel.name),
            entries: &entries,
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes what it reads of workgroup memory.
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: None,
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(GpuError::Device { message: error.to_string() });
        }
        let pipeline = Arc::new(Pipeline { pipeline, layout });
        pipelines.insert(kernel.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// Begins to record work.
    pub(crate) fn record(&self, timed: bool) -> Recorder<'_> {
        let encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let times = (timed && self.info.timestamps).then(|| {
            self.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * MOST_TIMED,
            })
        });
        let (uniforms, parameters) = (None, Vec::new());
        Recorder { context: self, encoder, times, timed: Vec::new(), uniforms, parameters }
    }
}

/// How many seconds each kernel took.
pub(crate) type Seconds = Vec<(&'static str, f64)>;

/// Kernels whose time is taken in one recording.
const MOST_TIMED: u32 = 256;

/// Kernels and copies, in the order in which they will run.
pub(crate) struct Recorder<'a> {
    context: &'a GpuContext,
    pub(crate) encoder: wgpu::CommandEncoder,
    times: Option<wgpu::QuerySet>,
    timed: Vec<&'static str>,
    /// Where the parameters of kernels go, and those that are not written there yet.
    uniforms: Option<wgpu::Buffer>,
    parameters: Vec<u8>,
}

/// Bytes of parameters that a buffer takes.
const PARAMETERS: usize = 16 << 10;

/// The sides of a grid of so many workgroups: `x * y` is at least as many.
pub(crate) fn grid(groups: u32, limit: u32) -> (u32, u32) {
    let x = groups.min(limit).max(1);
    (x, groups.div_ceil(x))
}

impl Recorder<'_> {
    /// Runs a kernel with parameters and buffers on so many workgroups; `params` are made from the length of
    /// a row of the grid.
    pub(crate) fn dispatch<P: Pod>(
        &mut self,
        kernel: &Kernel,
        groups: u32,
        params: impl FnOnce(u32) -> P,
        buffers: &[&wgpu::Buffer],
    ) -> Result<(), GpuError> {
        if groups == 0 {
            return Ok(());
        }
        let context = self.context;
        let pipeline = context.pipeline(kernel)?;
        let (x, y) = grid(groups, context.limits.max_compute_workgroups_per_dimension);
        let params = params(x);
        let uniform = self.parameters(bytemuck::bytes_of(&params))?;
        let buffers = buffers.iter().map(|buffer| buffer.as_entire_binding());
        let entries: Vec<_> = (0..)
            .zip(std::iter::once(uniform.binding()).chain(buffers))
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let group = context.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &pipeline.layout,
            entries: &entries,
        });
        let number = self.timed.len() as u32;
        let times = self.times.as_ref().filter(|_| number < MOST_TIMED);
        if times.is_some() {
            self.timed.push(kernel.name);
        }
        let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some(kernel.name),
            timestamp_writes: times.map(|query_set| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(2 * number),
                end_of_pass_write_index: Some(2 * number + 1),
            }),
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(x, y, 1);
        Ok(())
    }

    /// A place for the parameters of a kernel.
    fn parameters(&mut self, bytes: &[u8]) -> Result<Uniform, GpuError> {
        let context = self.context;
        let step = context.limits.min_uniform_buffer_offset_alignment as usize;
        let size = bytes.len().next_multiple_of(16);
        let mut offset = self.parameters.len().next_multiple_of(step.max(16));
        if offset + size > PARAMETERS {
            self.write_parameters();
            offset = 0;
        }
        let buffer = match &self.uniforms {
            Some(buffer) => buffer.clone(),
            None => {
                let kept = lock(&context.uniforms).pop();
                let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                let size = PARAMETERS.max(size) as u64;
                let buffer = match kept {
                    Some(buffer) => buffer,
                    None => context.allocate("parameters", size, usage)?,
                };
                self.uniforms.insert(buffer).clone()
            }
        };
        self.parameters.resize(offset, 0);
        self.parameters.extend_from_slice(bytes);
        self.parameters.resize(offset + size, 0);
        Ok(Uniform { buffer, offset: offset as u64, size: size as u64 })
    }

    /// Writes parameters where they belong.
    fn write_parameters(&mut self) -> Option<wgpu::Buffer> {
        let buffer = self.uniforms.take()?;
        self.context.queue.write_buffer(&buffer, 0, &self.parameters);
        self.parameters.clear();
        Some(buffer)
    }

    /// Runs what was recorded, and reads the first bytes of some buffers; also how many seconds each kernel took,
    /// if it was to be timed.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn finish(
        self,
        read: &[(&wgpu::Buffer, u64)],
    ) -> Result<(Vec<Vec<u32>>, Seconds), GpuError> {
        self.send(read)?.wait()
    }
}

/// A part of a buffer with parameters.
struct Uniform {
    buffer: wgpu::Buffer,
    offset: u64,
    size: u64,
}

impl Uniform {
    fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: std::num::NonZeroU64::new(self.size),
        })
    }
}

impl<'a> Recorder<'a> {
    /// Submits what was recorded, and copies of the first bytes of some buffers, without waiting for it.
    pub(crate) fn send(mut self, read: &[(&wgpu::Buffer, u64)]) -> Result<Pending<'a>, GpuError> {
        let context = self.context;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let total: u64 = read.iter().map(|&(_, bytes)| apart(bytes)).sum();
        let staging = context.allocate("results", total.max(4), usage)?;
        let mut offset = 0;
        for &(buffer, bytes) in read {
            self.encoder.copy_buffer_to_buffer(buffer, 0, &staging, offset, bytes);
            offset += apart(bytes);
        }
        let mut times = None;
        if let Some(query_set) = &self.times
            && !self.timed.is_empty()
        {
            let (count, bytes) = (2 * self.timed.len() as u32, 16 * self.timed.len() as u64);
            let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let resolved = context.allocate("times", bytes, resolve)?;
            let readable = context.allocate("times", bytes, usage)?;
            self.encoder.resolve_query_set(query_set, 0..count, &resolved, 0);
            self.encoder.copy_buffer_to_buffer(&resolved, 0, &readable, 0, bytes);
            times = Some(readable);
        }
        let uniforms = self.write_parameters();
        let submission = context.queue.submit([self.encoder.finish()]);
        // What is written to it from now on is written after these kernels.
        lock(&context.uniforms).extend(uniforms);
        for buffer in std::iter::once(&staging).chain(&times) {
            // Whether it could be mapped shows when it is read.
            buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        }
        let bytes = read.iter().map(|&(_, bytes)| bytes).collect();
        Ok(Pending { context, staging, bytes, times, timed: self.timed, submission })
    }
}

/// How far apart the starts of what is read are: they have to be multiples of 8.
fn apart(bytes: u64) -> u64 {
    bytes.next_multiple_of(wgpu::MAP_ALIGNMENT)
}

/// Work that runs on the device.
pub(crate) struct Pending<'a> {
    context: &'a GpuContext,
    staging: wgpu::Buffer,
    /// How many bytes were read of each buffer.
    bytes: Vec<u64>,
    times: Option<wgpu::Buffer>,
    timed: Vec<&'static str>,
    submission: wgpu::SubmissionIndex,
}

impl Pending<'_> {
    /// Waits for it; returns what was read, and how many seconds each kernel took, if it was to be timed.
    pub(crate) fn wait(self) -> Result<(Vec<Vec<u32>>, Seconds), GpuError> {
        let Pending { context, staging, bytes, times, timed, submission } = self;
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        let polled = context.device.poll(wait);
        context.check()?;
        let failed =
            |error: &dyn std::fmt::Display| GpuError::Device { message: error.to_string() };
        polled.map_err(|error| failed(&error))?;
        let words = |buffer: &wgpu::Buffer, start: u64, end: u64| -> Result<Vec<u32>, GpuError> {
            let view = buffer.get_mapped_range(start..end).map_err(|error| failed(&error))?;
            Ok(bytemuck::pod_collect_to_vec(&view))
        };
        let mut results = Vec::new();
        let mut offset = 0;
        for bytes in bytes {
            results.push(words(&staging, offset, offset + bytes)?);
            offset += apart(bytes);
        }
        let mut seconds = Vec::new();
        if let Some(times) = times {
            let ticks: Vec<u64> =
                bytemuck::pod_collect_to_vec(&words(&times, 0, 16 * timed.len() as u64)?);
            let period = f64::from(context.queue.get_timestamp_period()) * 1e-9;
            for (name, ticks) in timed.iter().zip(ticks.as_chunks::<2>().0) {
                seconds.push((*name, ticks[1].saturating_sub(ticks[0]) as f64 * period));
            }
        }
        Ok((results, seconds))
    }
}
