//! Which instruction set runs: detection, the environment variable, and the shims that compile a
//! plain loop for each level.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Plain Rust for the target's baseline.
    Scalar,
    /// AArch64 NEON, which every AArch64 processor has.
    Neon,
    /// x86-64 with AVX2, FMA, F16C, BMI1/2 and POPCNT.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI beside all of [`Avx2`](Level::Avx2).
    Avx512,
}

impl Level {
    /// Every level, slowest first.
    pub const ALL: [Level; 4] = [Level::Scalar, Level::Neon, Level::Avx2, Level::Avx512];

    /// The name that `NONIUS_SIMD` takes.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// True if this processor has the level.
    #[inline]
    pub fn is_available(self) -> bool {
        features() & (1 << self as u8) != 0
    }

    /// What the processor says; [`is_available`](Level::is_available) remembers it.
    fn detect(self) -> bool {
        match self {
            Level::Scalar => true,
            Level::Neon => {
                cfg!(all(
                    target_arch = "aarch64",
                    target_feature = "neon",
                    target_endian = "little"
                ))
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.detect()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => false,
        }
    }

    /// Runs `op` compiled for this level; at a level that the processor lacks, compiled for the
    /// baseline. The result is the same at every level.
    #[inline]
    pub fn vectorize<V: Vectorize>(self, op: V) -> V::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if Level::Avx2.is_available() => {
                // SAFETY: the processor has every feature that `run_avx2` enables: the guard on
                // this arm has just checked `is_available`, which tests the same list.
                unsafe { run_avx2(op) }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if Level::Avx512.is_available() => {
                // SAFETY: as above, for the list of `run_avx512`.
                unsafe { run_avx512(op) }
            }
            _ => op.run(),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Level, String> {
        Level::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| {
            format!("unknown SIMD level {name:?}: expected scalar, neon, avx2 or avx512")
        })
    }
}

/// The bit of [`features`] for AVX-512 VBMI, which one kernel gains from. No level of its own: the
/// result is the same.
#[cfg(target_arch = "x86_64")]
const VBMI: u8 = 1 << 7;

/// The levels that the processor has, bit `level as u8` each, and [`VBMI`]. A kernel may take
/// only some nanoseconds, so this is one load.
#[inline]
fn features() -> u8 {
    // Zero until asked for the first time: there is always `Scalar`.
    static FEATURES: AtomicU8 = AtomicU8::new(0);

    #[cold]
    fn ask() -> u8 {
        let mut bits = 0;
        for level in Level::ALL {
            bits |= u8::from(level.detect()) << level as u8;
        }
        #[cfg(target_arch = "x86_64")]
        if Level::Avx512.detect() && is_x86_feature_detected!("avx512vbmi") {
            bits |= VBMI;
        }
        FEATURES.store(bits, Ordering::Relaxed);
        bits
    }

    match FEATURES.load(Ordering::Relaxed) {
        0 => ask(),
        bits => bits,
    }
}

/// True if the processor has AVX-512 VBMI beside all of [`Level::Avx512`].
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_vbmi() -> bool {
    #[cfg(test)]
    if WITHOUT_VBMI.get() {
        return false;
    }
    features() & VBMI != 0
}

#[cfg(test)]
thread_local! {
    /// See [`without_vbmi`].
    static WITHOUT_VBMI: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` as on a processor without VBMI, of which there are many: what is tested on one that has it.
#[cfg(test)]
pub(crate) fn without_vbmi<R>(f: impl FnOnce() -> R) -> R {
    WITHOUT_VBMI.set(true);
    let result = f();
    WITHOUT_VBMI.set(false);
    result
}

/// Calls a kernel of the module for `level`, or its scalar twin where the processor lacks that.
macro_rules! dispatch {
    ($level:expr, $kernel:ident($($argument:expr),*)) => {
        match $level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if Level::Avx2.is_available() => {
                // SAFETY: the processor has every feature that the kernels of `avx2` are compiled
                // for: the guard has just checked the same list.
                unsafe { avx2::$kernel($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if Level::Avx512.is_available() => {
                // SAFETY: as above, for `avx512`.
                unsafe { avx512::$kernel($($argument),*) }
            }
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
            Level::Neon => {
                // SAFETY: the whole program is compiled for NEON.
                unsafe { neon::$kernel($($argument),*) }
            }
            _ => scalar::$kernel($($argument),*),
        }
    };
}
pub(crate) use dispatch;

/// A piece of plain Rust that gains from wider registers. Mark `run` and all that it calls
/// `#[inline(always)]`, or the callee is compiled for the baseline.
///
/// Measure what becomes of it: the compiler may turn a loop over an array of many sums into
/// gathers at AVX-512, ten times slower than the same loop with one sum.
pub trait Vectorize {
    /// What it returns.
    type Output;

    /// Does the work.
    fn run(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
fn run_avx2<V: Vectorize>(op: V) -> V::Output {
    op.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
)]
fn run_avx512<V: Vectorize>(op: V) -> V::Output {
    op.run()
}

/// The levels that this processor has, slowest first.
pub fn available() -> Vec<Level> {
    Level::ALL.into_iter().filter(|level| level.is_available()).collect()
}

static CHOSEN: OnceLock<Level> = OnceLock::new();

thread_local! {
    /// A level forced for a piece of a test.
    static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
}

/// The level in use: the best available, or the one that `NONIUS_SIMD` names.
///
/// # Panics
/// If `NONIUS_SIMD` names no level, or one that this processor lacks: whoever sets it wants to
/// know.
#[inline]
pub fn level() -> Level {
    if let Some(level) = FORCED.get() {
        return level;
    }
    *CHOSEN.get_or_init(|| match std::env::var("NONIUS_SIMD") {
        Ok(name) if !name.is_empty() => {
            let level: Level = name.parse().unwrap_or_else(|error| panic!("NONIUS_SIMD: {error}"));
            assert!(level.is_available(), "NONIUS_SIMD: this processor has no {level}");
            level
        }
        _ => available().pop().unwrap_or(Level::Scalar),
    })
}

/// Runs `f` with the level forced on this thread: for tests that compare levels.
///
/// # Panics
/// If the processor lacks the level.
pub fn with_level<R>(level: Level, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    assert!(level.is_available(), "this processor has no {level}");
    let _restore = Restore(FORCED.replace(Some(level)));
    f()
}

/// Asks the processor to bring a slice into its first cache, for when it will be read at once. Does
/// nothing where there is no such request.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in lines(values) {
        // SAFETY: SSE is part of every x86-64 processor, and a prefetch of any address is no
        // access.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// [`prefetch`] into the second cache, for what does not fit into the first or is read later.
#[inline]
pub fn prefetch_later<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in lines(values) {
        // SAFETY: as in `prefetch`.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// The cache lines that hold a slice.
#[cfg(target_arch = "x86_64")]
#[inline]
fn lines<T>(values: &[T]) -> impl Iterator<Item = *const i8> {
    let (start, bytes) = (values.as_ptr().cast::<i8>(), size_of_val(values));
    let before = start.addr() % 64;
    let first = start.wrapping_sub(before);
    (0..(before + bytes).div_ceil(64)).map(move |line| first.wrapping_add(64 * line))
}
