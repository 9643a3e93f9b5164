//! Every shader is valid and small enough for any device; and every kernel does what its twin does.

use bytemuck::{Zeroable, cast_slice};

use nonius::random::Random;
use nonius::raw::RawFloat;

use super::scan::{Codes, PIECE};
use super::testing::{context, run};
use super::*;

/// What every device has of it.
const WORKGROUP_BYTES: u32 = 16_384;

/// All kernels, with constants that take the most memory.
fn kernels() -> Vec<Kernel> {
    let mut kernels = vec![
        views::kernel(),
        gather::kernel(),
        carry::kernel(),
        copy::kernel(),
        nearest::kernel(),
        arithmetic::kernel(),
        rotate::kernel(16),
        rotate::kernel(8),
        adjust::kernel(),
        pack::kernel(),
        select::kernel(),
        refine::kernel(true),
        refine::kernel(false),
        top::kernel(1),
        top::kernel(top::MOST),
    ];
    let floats = [RawFloat::F16, RawFloat::Bf16, RawFloat::F32].map(Codes::Float);
    for codes in [Codes::One, Codes::Four, Codes::Eight].into_iter().chain(floats) {
        for &queries in codes.queries() {
            // As many pieces as leave room for a word at least.
            for pieces in [1, 16] {
                let room = WORKGROUP_BYTES - scan::piece_bytes(queries, pieces);
                kernels.push(scan::kernel(
                    codes,
                    queries,
                    room / codes.table_bytes(queries),
                    pieces,
                ));
            }
        }
    }
    kernels
}

#[test]
fn shaders_are_valid_and_fit_into_workgroup_memory() {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    // Halves are unpacked on every device that is no web browser's.
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    for kernel in kernels() {
        let source = kernel.source();
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let shared = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup)
            .map(|(_, variable)| layouter[variable.ty].size)
            .sum::<u32>();
        assert!(shared <= WORKGROUP_BYTES, "{}: {shared} bytes", kernel.name);
        // The buffers of the shader are those that the kernel names.
        let mut bindings: Vec<(u32, Access)> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let access = match variable.space {
                    naga::AddressSpace::Uniform => Access::Uniform,
                    naga::AddressSpace::Storage { access } => {
                        match access.contains(naga::StorageAccess::STORE) {
                            true => Access::Write,
                            false => Access::Read,
                        }
                    }
                    _ => return None,
                };
                Some((variable.binding?.binding, access))
            })
            .collect();
        bindings.sort_by_key(|&(binding, _)| binding);
        let expected: Vec<_> = (0..).zip(kernel.access()).collect();
        assert_eq!(bindings, expected, "{}", kernel.name);
        assert!(kernel.writes.len() <= 8, "{}: more buffers than every device has", kernel.name);
    }
}

#[test]
fn keys_are_ordered_as_floats_are() {
    let values = [f32::MIN, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, f32::MAX];
    assert!(values.map(ordered).is_sorted_by(|a, b| a < b));
    assert!(values.map(|x| unordered(ordered(x)).to_bits()) == values.map(f32::to_bits));
    assert!(ordered(f32::MAX) < NONE);
}

fn random_words(random: &mut Random, count: usize) -> Vec<u32> {
    (0..count).map(|_| random.next_u64() as u32).collect()
}

fn random_floats(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.normal() as f32).collect()
}

/// Whether two values differ by no more than rounding of a sum of this size.
fn near(a: f32, b: f32, size: f32) -> bool {
    (a - b).abs() <= 1e-5 * size.max(a.abs()).max(b.abs())
}

#[test]
fn views_are_those_of_the_twin() {
    let Some(context) = context() else { return };
    let mut random = Random::new(1, 0);
    for (lengths, pieces, lists, distance) in
        [(vec![8u32], 1, 1, 1), (vec![8, 120, 24], 3, 1, 0), (vec![200, 8], 0, 0, 0)]
    {
        let dims: u32 = lengths.iter().sum();
        let queries = 3;
        let query = (views::HEAD + views::LINE * pieces) as u32 + dims;
        let mut values = random_floats(&mut random, (queries * query) as usize);
        for row in values.chunks_exact_mut(query as usize) {
            // Confidence and variances are not negative; the last query knows nothing of its error.
            row[2..5].iter_mut().for_each(|x| *x = x.abs());
        }
        let last = 2 * query as usize;
        values[last + 3..last + 5].fill(0.0);
        let centroids = random_words(&mut random, (4 * dims / 2) as usize);
        let factors: Vec<[f32; 2]> = (0..4).map(|i| [1e-4 * (i + 1) as f32, i as f32]).collect();
        let pairs: Vec<Pair> = (0..7)
            .map(|i| Pair {
                query: i % queries,
                list: i % 4,
                constant: 0.0,
                distance_sq: [0.0, 1.0, 9.5][i as usize % 3],
                ..Pair::default()
            })
            .collect();
        let mut params = views::Params {
            pairs: pairs.len() as u32,
            grid_x: 0,
            dims,
            segments: lengths.len() as u32,
            pieces: pieces as u32,
            query,
            lists,
            distance,
        };
        let view = views::floats(lengths.len(), pieces);
        let mut expected = vec![0.0f32; pairs.len() * view];
        views::views(&params, &pairs, &values, &centroids, &factors, &lengths, &mut expected);
        let empty = vec![0u32; expected.len()];
        let buffers: [&[u32]; 6] = [
            cast_slice(&pairs),
            cast_slice(&values),
            &centroids,
            cast_slice(&factors),
            &lengths,
            &empty,
        ];
        let found = run(
            context,
            &views::kernel(),
            params.pairs,
            |grid_x| {
                params.grid_x = grid_x;
                params
            },
            &buffers,
        );
        for (i, (&expected, found)) in expected.iter().zip(&found[0]).enumerate() {
            let found = f32::from_bits(*found);
            assert!(near(found, expected, 10.0 * dims as f32), "{i}: {found}, not {expected}");
        }
    }
}

/// Some work for a scan: two lists with some vectors each, and queries that search one or both.
struct ScanCase {
    params: scan::Params,
    codes: Vec<u32>,
    ranks: Vec<u32>,
    work: Vec<u32>,
    pairs: Vec<Pair>,
    tables: Vec<u32>,
    views: Vec<f32>,
}

/// `plain`: bounds are the negated sums, integers.
fn scan_case(
    random: &mut Random,
    kind: Codes,
    pieces: &[u32],
    scales: bool,
    plain: bool,
) -> ScanCase {
    const QUERIES: u32 = 11;
    let words: u32 = pieces.iter().sum();
    let additive = !matches!(kind, Codes::Float(_));
    let stride =
        words + u32::from(additive) + if scales { pieces.len().div_ceil(2) as u32 } else { 0 };
    let sizes = [70u32, 33];
    let blocks: u32 = sizes.iter().map(|size| size.div_ceil(32)).sum();
    let mut codes = random_words(random, (blocks * 32 * stride) as usize);
    for (i, word) in codes.iter_mut().enumerate() {
        let w = i as u32 / 32 % stride;
        if additive && w == words {
            *word = if plain { 0 } else { (random.normal() as f32).to_bits() };
        } else if w > words {
            // Scales of one byte: those of two bytes may have any code.
            *word &= 0xffff_00ff;
        } else if !additive {
            // Values of some size, in all formats: exponents around that of one.
            *word = *word & 0x83ff_83ff | 0x3c00_3c00;
        }
    }
    let table = words as usize * kind.table_words();
    let tables = match kind {
        Codes::Float(_) => {
            random_floats(random, QUERIES as usize * table).iter().map(|x| x.to_bits()).collect()
        }
        _ => random_words(random, QUERIES as usize * table),
    };
    // All search the first list, every second one the other.
    let mut pairs = Vec::new();
    let mut members = [Vec::new(), Vec::new()];
    for query in 0..QUERIES {
        let mut first = 0;
        for list in 0..=(query + 1) % 2 {
            members[list as usize].push(pairs.len() as u32);
            let constant = if plain { 0.0 } else { random.normal() as f32 };
            pairs.push(Pair { query, list, constant, first, ..Pair::default() });
            first += sizes[list as usize];
        }
    }
    let view = 3 + 2 * pieces.len();
    let mut views = random_floats(random, pairs.len() * view);
    if plain {
        for view in views.chunks_exact_mut(view) {
            view[3..].as_chunks_mut::<2>().0.fill([1.0, 0.0]);
        }
    } else {
        views.iter_mut().for_each(|x| *x *= 1e-3);
    }
    let ranks = (0..blocks * 32).map(|slot| slot * 7 % 1000).collect();
    ScanCase {
        params: scan::Params {
            capacity: sizes.iter().sum(),
            stride,
            words,
            pieces: pieces.len() as u32,
            view: view as u32,
            lines: 3,
            table: table as u32,
            slot: 320,
            additive: u32::from(additive),
            square: 1.0,
            queries: QUERIES,
            ..scan::Params::zeroed()
        },
        codes,
        ranks,
        work: members_of(&sizes, &members, pieces, words, scales),
        pairs,
        tables,
        views,
    }
}

/// Lists' sizes and members, one after the other, for [`items`].
fn members_of(
    sizes: &[u32],
    members: &[Vec<u32>],
    pieces: &[u32],
    words: u32,
    scales: bool,
) -> Vec<u32> {
    let mut out = vec![sizes.len() as u32];
    for (&size, members) in sizes.iter().zip(members) {
        out.extend([size, members.len() as u32]);
        out.extend(members);
    }
    for (i, &piece) in (0..).zip(pieces) {
        let format = if i % 2 == 0 { [18, (127 - 3) << 23] } else { [11, (127 - 8) << 23] };
        let scale = if scales { words + 1 + i / 2 } else { NONE };
        out.extend([piece, scale, 16 * (i % 2), format[0], format[1]]);
    }
    out
}

impl ScanCase {
    /// The work, with so many queries to an item, and the parameters for it.
    fn plan(&self, together: usize, first: u32) -> (scan::Params, Vec<u32>) {
        let (mut items, mut members) = (Vec::new(), Vec::new());
        let mut at = 1;
        let mut slot = 0;
        for _ in 0..self.work[0] {
            let (size, count) = (self.work[at], self.work[at + 1] as usize);
            let own = &self.work[at + 2..at + 2 + count];
            at += 2 + count;
            for start in (0..count).step_by(together) {
                // In two items, the first of whole blocks.
                for (number, vectors) in [(0, size.min(32)), (32, size.saturating_sub(32))] {
                    if vectors > 0 {
                        let own = together.min(count - start) as u32;
                        let first_member = (members.len() + start) as u32;
                        items.extend([slot + number, vectors, first_member, own, number]);
                    }
                }
            }
            members.extend_from_slice(own);
            slot += size.next_multiple_of(32);
        }
        let mut params = self.params;
        params.first = first;
        params.items = (items.len() / scan::ITEM) as u32;
        params.members = items.len() as u32;
        params.piece_table = (items.len() + members.len()) as u32;
        items.extend(members);
        items.extend(&self.work[at..at + PIECE * params.pieces as usize]);
        (params, items)
    }

    /// State and candidates after the kernel with so many queries and words of tables at a time, and after the twin.
    fn run(
        &self,
        context: &crate::GpuContext,
        kind: Codes,
        queries: u32,
        slice: u32,
        first: u32,
        state: &[u32],
    ) -> [(Vec<u32>, Vec<Candidate>); 2] {
        let (mut params, work) = self.plan(queries as usize, first);
        params.slice = slice;
        let empty = vec![[NONE; 4]; (params.queries * params.capacity) as usize];
        let buffers: [&[u32]; 8] = [
            &self.codes,
            &self.ranks,
            &work,
            cast_slice(&self.pairs),
            &self.tables,
            cast_slice(&self.views),
            state,
            cast_slice(&empty),
        ];
        let kernel = scan::kernel(kind, queries, slice, params.pieces);
        let found = run(
            context,
            &kernel,
            params.items,
            |grid_x| {
                params.grid_x = grid_x;
                params
            },
            &buffers,
        );
        let mut own = (state.to_vec(), empty);
        scan::scan(
            kind,
            &params,
            &self.codes,
            &self.ranks,
            &work,
            &self.pairs,
            &self.tables,
            &self.views,
            &mut own.0,
            &mut own.1,
        );
        [(found[0].clone(), cast_slice(&found[1]).to_vec()), own]
    }
}

#[test]
fn scans_are_those_of_the_twin() {
    let Some(context) = context() else { return };
    let mut random = Random::new(2, 0);
    let cases: [(Codes, &[u32], bool); 12] = [
        (Codes::One, &[1], true),
        (Codes::One, &[3, 12, 5], true),
        (Codes::Four, &[3, 2, 5], true),
        (Codes::Four, &[32, 4], false),
        (Codes::One, &[], true),
        (Codes::Eight, &[1], false),
        (Codes::Eight, &[7], false),
        (Codes::Eight, &[64, 3], false),
        (Codes::Float(RawFloat::F16), &[4], false),
        (Codes::Float(RawFloat::Bf16), &[13], false),
        (Codes::Float(RawFloat::F32), &[8], false),
        (Codes::Float(RawFloat::F32), &[33], false),
    ];
    for (kind, pieces, scales) in cases {
        let words: u32 = pieces.iter().sum();
        for &queries in kind.queries() {
            let room = WORKGROUP_BYTES - scan::piece_bytes(queries, pieces.len() as u32);
            let most = room / kind.table_bytes(queries);
            // The table whole, if it fits, and in slices.
            for slice in [words.clamp(1, most), 2.min(most)] {
                let case = scan_case(&mut random, kind, pieces, scales, false);
                let state = vec![0; 2 * case.params.queries as usize];
                let [found, expected] = case.run(context, kind, queries, slice, 1, &state);
                let size = words as f32 * 64.0;
                for (found, expected) in found.1.iter().zip(&expected.1) {
                    assert_eq!(found[1..], expected[1..], "{kind:?} {pieces:?} {queries} {slice}");
                    if expected[1] != NONE {
                        let (found, expected) = (unordered(found[0]), unordered(expected[0]));
                        assert!(
                            near(found, expected, size),
                            "{kind:?} {queries}: {found}, not {expected}"
                        );
                    }
                }
                if matches!(kind, Codes::Float(_)) || words == 0 {
                    continue;
                }
                // Sums of integers are equal to the bit, and so are the candidates within limits among them.
                let case = scan_case(&mut random, kind, pieces, false, true);
                let mut keys: Vec<u32> = Vec::new();
                let [found, expected] = case.run(context, kind, queries, slice, 1, &state);
                assert_eq!(found.1, expected.1, "{kind:?} {pieces:?} {queries} {slice}");
                keys.extend(found.1.iter().map(|candidate| candidate[0]));
                keys.sort_unstable();
                let mut state = state.clone();
                for (i, limit) in state[..case.params.queries as usize].iter_mut().enumerate() {
                    *limit = match i {
                        0 => NONE,
                        1 => 0,
                        _ => keys[keys.len() / (i + 1)],
                    };
                }
                let [mut found, mut expected] = case.run(context, kind, queries, slice, 0, &state);
                assert_eq!(found.0, expected.0);
                for result in [&mut found.1, &mut expected.1] {
                    result
                        .chunks_exact_mut(case.params.capacity as usize)
                        .for_each(<[_]>::sort_unstable);
                }
                assert_eq!(found.1, expected.1);
            }
        }
    }
}

#[test]
fn copies_are_complete() {
    let Some(context) = context() else { return };
    let source = random_words(&mut Random::new(7, 0), 4 * 1000);
    let params = copy::Params { words: 1000, threads: 512 };
    let mut target = vec![0; source.len()];
    let found = run(context, &copy::kernel(), 2, |_| params, &[&source, &target]);
    copy::copy(&params, &source, &mut target);
    assert_eq!(found[0], target);
}

#[test]
fn each_of_many_kernels_has_its_parameters() {
    let Some(context) = context() else { return };
    let mut random = Random::new(8, 0);
    let sources = [random_words(&mut random, 4 * 300), random_words(&mut random, 4 * 300)];
    let buffers = sources.each_ref().map(|words| context.filled("copy", words).unwrap());
    let target = context.buffer("copy", 16 * 300).unwrap();
    let mut expected = vec![0; 4 * 300];
    let mut recorder = context.record(false);
    // Each leaves one more of those before.
    for words in (1..=300).rev() {
        let params = copy::Params { words, threads: 512 };
        let source = words as usize % 2;
        recorder.dispatch(&copy::kernel(), 2, |_| params, &[&buffers[source], &target]).unwrap();
        copy::copy(&params, &sources[source], &mut expected);
    }
    let (found, _) = recorder.finish(&[(&target, 16 * 300)]).unwrap();
    assert_eq!(found[0], expected);
}

#[test]
fn the_best_are_those_of_a_sort() {
    let Some(context) = context() else { return };
    let mut random = Random::new(3, 0);
    for (keep, capacity) in
        [(1u32, 1u32), (10, 300), (128, 128), (129, 1000), (1024, 700), (1000, 5000)]
    {
        for by_rank in [0, 1] {
            let queries = 3;
            let candidates: Vec<Candidate> = (0..queries * capacity)
                .map(|_| {
                    // Many ties; ranks are all different.
                    let key = random.below(u64::from(capacity / 3 + 2)) as u32;
                    [key, 0, 0, random.next_u64() as u32 >> 1]
                })
                .collect();
            let mut state = vec![5; 2 * queries as usize];
            state[queries as usize..].copy_from_slice(&[0, capacity, capacity / 2 + 1]);
            let mut params = top::Params {
                queries,
                capacity,
                keep,
                limit: keep.div_ceil(2),
                by_rank,
                ..top::Params::zeroed()
            };
            let empty = vec![[7u32; 2]; (queries * keep) as usize];
            let buffers: [&[u32]; 3] = [cast_slice(&candidates), &state, cast_slice(&empty)];
            let found = run(
                context,
                &top::kernel(keep),
                queries,
                |grid_x| {
                    params.grid_x = grid_x;
                    params
                },
                &buffers,
            );
            let mut best = empty.clone();
            top::top(&params, &candidates, &mut state, &mut best);
            assert_eq!(found[0], state, "{keep} of {capacity}");
            assert_eq!(cast_slice::<u32, [u32; 2]>(&found[1]), &best, "{keep} of {capacity}");
        }
    }
}

#[test]
fn chosen_candidates_are_brought_together_and_kept() {
    let Some(context) = context() else { return };
    let mut random = Random::new(4, 0);
    let (queries, capacity, keep) = (5u32, 40u32, 33u32);
    let mut candidate = || random_words(&mut random, 4).try_into().unwrap();
    let candidates: Vec<Candidate> = (0..queries * capacity).map(|_| candidate()).collect();
    let mut random = Random::new(5, 0);
    let best: Vec<[u32; 2]> = (0..queries * keep)
        .map(|i| {
            let number = random.below(u64::from(capacity)) as u32;
            [random.next_u64() as u32, if i % 7 == 0 { NONE } else { number }]
        })
        .collect();
    let mut params = gather::Params { queries, grid_x: 0, capacity, keep };
    let empty = vec![[1u32; 4]; (queries * keep) as usize];
    let buffers: [&[u32]; 3] = [cast_slice(&candidates), cast_slice(&best), cast_slice(&empty)];
    let groups = (queries * keep).div_ceil(gather::THREADS);
    let found = run(
        context,
        &gather::kernel(),
        groups,
        |grid_x| {
            params.grid_x = grid_x;
            params
        },
        &buffers,
    );
    let mut chosen = empty;
    gather::gather(&params, &candidates, &best, &mut chosen);
    assert_eq!(cast_slice::<u32, Candidate>(&found[0]), &chosen);

    // A limit that half of them exceed; the last query has no room left.
    let mut state = vec![1 << 31; 2 * queries as usize];
    state[queries as usize..].fill(3);
    state[2 * queries as usize - 1] = capacity;
    let buffers: [&[u32]; 4] =
        [cast_slice(&best), cast_slice(&chosen), &state, cast_slice(&candidates)];
    let found = run(context, &carry::kernel(), groups, |_| params, &buffers);
    let mut out = candidates.clone();
    carry::carry(&params, &best, &chosen, &mut state, &mut out);
    assert_eq!(found[0], state);
    let mut added: Vec<Candidate> = cast_slice(&found[1]).to_vec();
    for result in [&mut added, &mut out] {
        result.chunks_exact_mut(capacity as usize).for_each(|own| own[3..].sort_unstable());
    }
    assert_eq!(added, out);
    assert_ne!(added, candidates);
}

#[test]
fn refinement_is_that_of_the_twin() {
    let Some(context) = context() else { return };
    let mut random = Random::new(6, 0);
    let plans: [&[(u32, u32)]; 4] = [
        &[(8, 4)],
        &[(8, 13), (16, 5), (8, 0)],
        &[(48, 7), (128, 8), (80, 2), (32, 0)],
        &[(200, 1)],
    ];
    for (plan, lists) in plans.into_iter().zip([1, 1, 0, 0]) {
        let mut segments = Vec::new();
        let (mut start, mut plane) = (0, 1 + plan.len().div_ceil(2) as u32);
        for &(dims, bits) in plan {
            let (scale_shift, scale_base) =
                if bits <= 4 { (18, (127 - 3) << 23) } else { (11, (127 - 8) << 23) };
            segments.push(refine::Segment {
                start: start / 4,
                fours: dims / 4,
                bits,
                plane,
                scale_shift,
                scale_base,
                unit: 0.1,
                energy: 0.01 * dims as f32,
            });
            start += dims;
            plane += dims / 8 * bits.div_ceil(4);
        }
        let (stride, dims) = (plane, start);
        let (queries, slots, capacity) = (3u32, 50u32, 40u32);
        let mut rows = random_words(&mut random, (slots * stride) as usize);
        for row in rows.chunks_exact_mut(stride as usize) {
            row[0] = (random.normal() as f32).to_bits();
            // One-byte scales have no upper byte, and a code has no bits beyond its own.
            for (s, segment) in segments.iter().enumerate() {
                if segment.bits <= 4 {
                    row[1 + s / 2] &= !(0xff00 << (16 * (s % 2)));
                }
                if segment.bits % 4 != 0 {
                    let top = segment.plane as usize..(segment.plane + segment.fours / 2) as usize;
                    let mask = 0x1111_1111 * ((1u32 << (segment.bits % 4)) - 1);
                    row[top].iter_mut().for_each(|word| *word &= mask);
                }
            }
        }
        let table = dims / 2 + plan.len() as u32;
        let mut tables = random_words(&mut random, (queries * table) as usize);
        for table in tables.chunks_exact_mut(table as usize) {
            let digits = dims as usize / 2;
            // High digits of magnitude 63 at most.
            for word in &mut table[..digits / 2] {
                let bytes = word.to_le_bytes().map(|byte| ((byte as i8) / 2) as u8);
                *word = u32::from_le_bytes(bytes);
            }
            table[digits..].fill(1e-4f32.to_bits());
        }
        let view = 2 + plan.len() as u32 + 2;
        let pairs = 6;
        let mut views = random_floats(&mut random, (pairs * view) as usize);
        views.iter_mut().for_each(|x| *x = x.abs());
        compare_refinement(
            context,
            true,
            refine::Params {
                queries,
                groups: 2,
                capacity,
                slot: 64,
                slots,
                stride,
                segments: plan.len() as u32,
                lists,
                view,
                table,
                alpha: 2.0,
                correction: 0.7,
                ..refine::Params::zeroed()
            },
            &rows,
            &tables,
            &views,
            &segments,
            &mut random,
        );
    }
    for (columns, bits) in [(1u32, 8u32), (13, 8), (48, 8), (1, 4), (23, 4)] {
        let stride = columns.div_ceil(32 / bits) + 1;
        let slots = 64;
        let mut rows = random_words(&mut random, (slots * stride) as usize);
        for (i, word) in rows.iter_mut().enumerate() {
            if i as u32 / 32 % stride == stride - 1 {
                *word = 1.5f32.to_bits();
            }
        }
        let table = columns << bits;
        let values = random_floats(&mut random, 3 * table as usize);
        let tables: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
        let views = random_floats(&mut random, 6 * 5);
        compare_refinement(
            context,
            false,
            refine::Params {
                queries: 3,
                groups: 3,
                capacity: 40,
                slot: 64,
                slots,
                stride,
                segments: columns,
                lists: bits,
                view: 5,
                table,
                alpha: 2.0,
                correction: 1.1,
                ..refine::Params::zeroed()
            },
            &rows,
            &tables,
            &views,
            &[refine::Segment::zeroed()],
            &mut random,
        );
    }
}

/// Refines candidates, of which some lie in other chunks.
fn compare_refinement(
    context: &crate::GpuContext,
    saq: bool,
    mut params: refine::Params,
    rows: &[u32],
    tables: &[u32],
    views: &[f32],
    segments: &[refine::Segment],
    random: &mut Random,
) {
    let candidates: Vec<Candidate> = (0..params.queries * params.capacity)
        .map(|i| {
            let slot = 64 + random.below(u64::from(params.slots)) as u32;
            let slot = match i % 9 {
                0 => NONE,
                1 => 63,
                2 => 64 + params.slots,
                _ => slot,
            };
            [17, slot, random.below(6) as u32, i]
        })
        .collect();
    for count in [0, 40] {
        params.count = count;
        let mut state = vec![0; 2 * params.queries as usize];
        state[params.queries as usize..].copy_from_slice(&[0, 13, 1000]);
        let buffers: [&[u32]; 6] = [
            rows,
            tables,
            cast_slice(views),
            &state,
            cast_slice(segments),
            cast_slice(&candidates),
        ];
        let groups = params.queries * params.groups;
        let found = run(
            context,
            &refine::kernel(saq),
            groups,
            |grid_x| {
                params.grid_x = grid_x;
                params
            },
            &buffers,
        );
        let mut expected = candidates.clone();
        refine::refine(saq, &params, rows, tables, views, &state, segments, &mut expected);
        let mut changed = 0;
        for (found, expected) in cast_slice::<u32, Candidate>(&found[0]).iter().zip(&expected) {
            assert_eq!(found[1..], expected[1..]);
            if expected[0] == 17 {
                assert_eq!(found[0], 17);
                continue;
            }
            changed += 1;
            let (found, expected) = (unordered(found[0]), unordered(expected[0]));
            assert!(near(found, expected, 20.0), "saq {saq}: {found}, not {expected}");
        }
        assert!(changed > 10, "{changed}");
    }
}
