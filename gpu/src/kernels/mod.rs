//! The kernels: a shader, its parameters, and a twin of the same name on the same buffers in plain Rust, which
//! tests compare it with.
//!
//! Shaders are texts that are put together: constants, what all share, and the parts of the kernel. Lines between
//! `#repeat NAME COUNT` and `#end` are there as often as the count says, a number or a constant, with a number from 0 on
//! for `$NAME`: compilers do not unroll loops that are watched for their end, and so would keep what
//! is indexed by the loop in memory.

pub(crate) mod adjust;
pub(crate) mod arithmetic;
pub(crate) mod carry;
#[cfg(any(test, feature = "bench"))]
pub(crate) mod copy;
pub(crate) mod gather;
pub(crate) mod nearest;
pub(crate) mod pack;
pub(crate) mod refine;
pub(crate) mod rotate;
pub(crate) mod scan;
pub(crate) mod select;
pub(crate) mod top;
pub(crate) mod views;

use bytemuck::{Pod, Zeroable};

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Uniform,
    Read,
    Write,
}

/// A kernel with its constants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// The parts of the shader.
    pub(crate) parts: &'static [&'static str],
    /// Unsigned constants that come before them.
    pub(crate) constants: Vec<(&'static str, u32)>,
    /// Storage buffers, after the parameters: true for those that are written.
    pub(crate) writes: &'static [bool],
}

impl Kernel {
    /// The shader.
    pub(crate) fn source(&self) -> String {
        let mut source = String::new();
        for (name, value) in &self.constants {
            source.push_str(&format!("const {name}: u32 = {value}u;\n"));
        }
        source.push_str(include_str!("common.wgsl"));
        for part in self.parts {
            self.unroll(&mut part.lines(), &mut source);
        }
        source
    }

    /// Writes lines up to the end of a repetition, or to the last one.
    fn unroll(&self, lines: &mut std::str::Lines<'_>, out: &mut String) {
        while let Some(line) = lines.next() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("#end"), None, None) => return,
                (Some("#repeat"), Some(name), Some(count)) => {
                    let constant = self.constants.iter().find(|(name, _)| *name == count);
                    let count =
                        constant.map_or_else(|| count.parse().ok(), |(_, count)| Some(*count));
                    let mut body = String::new();
                    self.unroll(lines, &mut body);
                    let name = format!("${name}");
                    // A count that is none leaves the line to the shader compiler, which names it.
                    match count {
                        Some(count) => {
                            (0..count)
                                .for_each(|i| out.push_str(&body.replace(&name, &i.to_string())));
                        }
                        None => out.push_str(line),
                    }
                }
                _ => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
    }

    /// How it uses its buffers, in the order of their bindings.
    pub(crate) fn access(&self) -> Vec<Access> {
        let storage = self.writes.iter().map(|&write| match write {
            true => Access::Write,
            false => Access::Read,
        });
        std::iter::once(Access::Uniform).chain(storage).collect()
    }
}

/// A query's list, as in `common.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Pair {
    pub(crate) query: u32,
    pub(crate) list: u32,
    pub(crate) constant: f32,
    pub(crate) distance_sq: f32,
    pub(crate) first: u32,
    pub(crate) unused: [u32; 3],
}

/// No candidate.
pub(crate) const NONE: u32 = u32::MAX;

/// Key, slot, pair, rank.
#[cfg(test)]
pub(crate) type Candidate = [u32; 4];

/// The unsigned integer that orders as a float does.
#[cfg(test)]
pub(crate) fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The float of [`ordered`].
pub(crate) fn unordered(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
