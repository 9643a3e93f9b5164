//! Index files taken apart by `FORMAT.md` alone, to change them on purpose.

use nonius::{IndexBuilder, IndexConfig, Keep, Metric, QuantizerSpec};

use crate::{config, synthetic};

/// Bytes of the header.
pub const HEADER: usize = 128;
/// Bytes of an entry of the table.
pub const ENTRY: usize = 40;

/// The codes of the kinds of sections.
pub mod kind {
    /// Parameters and counts.
    pub const META: u32 = 1;
    /// The mean.
    pub const MEAN: u32 = 2;
    /// The packed transform.
    pub const ROTATION: u32 = 3;
    /// The plan.
    pub const SEGMENTS: u32 = 4;
    /// The centroids.
    pub const CENTROIDS: u32 = 5;
    /// The centroids, packed.
    pub const CENTROIDS_PACKED: u32 = 6;
    /// Where lists start.
    pub const LIST_TABLE: u32 = 7;
    /// The first stage.
    pub const SCAN: u32 = 8;
    /// The other bits.
    pub const REST: u32 = 9;
    /// Ids.
    pub const IDS: u32 = 10;
    /// Kept vectors.
    pub const KEPT: u32 = 11;
    /// What the transform's rows are multiplied by.
    pub const ROTATION_SCALES: u32 = 12;
    /// What packed centroids are multiplied by.
    pub const LIST_FACTORS: u32 = 13;
    /// The places of the vectors that copies are of.
    pub const SPILLED: u32 = 14;
    /// The centroids of all codebooks.
    pub const CODEBOOKS: u32 = 15;
    /// What they are multiplied by.
    pub const CODEBOOK_SCALES: u32 = 16;
    /// What they add to a table, where vectors have no factors.
    pub const CODEBOOK_OFFSETS: u32 = 17;
    /// The values of codes, dimension by dimension.
    pub const RANGES: u32 = 18;
    /// A checksum of each list.
    pub const LIST_CHECKSUMS: u32 = 19;
    /// The positions of vectors that are kept whole.
    pub const OUTLIER_POSITIONS: u32 = 20;
    /// These vectors.
    pub const OUTLIER_VECTORS: u32 = 21;
}

/// Where a section lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind's code.
    pub kind: u32,
    /// The entry's place in the file.
    pub entry: usize,
    /// The first byte.
    pub offset: usize,
    /// The number of bytes.
    pub length: usize,
}

/// A little-endian `u32` of a file.
///
/// # Panics
/// If it is not inside the file.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A little-endian `u64` of a file.
///
/// # Panics
/// If it is not inside the file.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The sections of a valid file, in their order.
///
/// # Panics
/// If the file is not valid.
pub fn places(bytes: &[u8]) -> Vec<Place> {
    (0..u32_at(bytes, 40) as usize)
        .map(|i| {
            let entry = HEADER + i * ENTRY;
            Place {
                kind: u32_at(bytes, entry),
                entry,
                offset: u64_at(bytes, entry + 8) as usize,
                length: u64_at(bytes, entry + 16) as usize,
            }
        })
        .collect()
}

/// The section of a kind; one without bytes if there is none.
pub fn place(places: &[Place], kind: u32) -> Place {
    let none = Place { kind, entry: 0, offset: 0, length: 0 };
    *places.iter().find(|p| p.kind == kind).unwrap_or(&none)
}

/// Writes the checksums that the bytes have now into header, table and entries, as far as what
/// they cover lies inside the file.
pub fn fix_checksums(bytes: &mut [u8], places: &[Place]) {
    for place in places {
        let body = place.offset..place.offset + place.length;
        if place.entry + ENTRY <= bytes.len()
            && let Some(body) = bytes.get(body)
        {
            let sum = crc32c::crc32c(body);
            bytes[place.entry + 24..place.entry + 28].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let end = HEADER + places.len() * ENTRY;
    if end + 4 <= bytes.len() {
        let sum = crc32c::crc32c(&bytes[HEADER..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
    }
    if HEADER <= bytes.len() {
        let sum = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The kinds of quantizers that [`quantizer_kind`] tells apart.
pub const QUANTIZER_KINDS: usize = 15;

/// The number of a quantizer's kind. A quantizer that is added does not compile until it has one here;
/// then tests ask for a file of it.
pub fn quantizer_kind(spec: QuantizerSpec) -> usize {
    match spec {
        QuantizerSpec::Saq(_) => 0,
        QuantizerSpec::OneSegment { bits: 1 } => 1,
        QuantizerSpec::OneSegment { .. } => 2,
        QuantizerSpec::Pq { bits: 8, .. } => 3,
        QuantizerSpec::Pq { bits: 4, .. } => 4,
        QuantizerSpec::Pq { .. } => 5,
        QuantizerSpec::Opq { .. } => 6,
        QuantizerSpec::Rvq { .. } => 7,
        QuantizerSpec::ProductRvq { .. } => 8,
        QuantizerSpec::Sq { .. } => 9,
        QuantizerSpec::Lvq { second: 0, .. } => 10,
        QuantizerSpec::Lvq { .. } => 11,
        QuantizerSpec::F16 => 12,
        QuantizerSpec::Bf16 => 13,
        QuantizerSpec::F32 => 14,
    }
}

/// The number of vectors in each of the [`samples`].
pub const ROWS: usize = 150;

/// The quantizers of [`samples`] with outliers.
const WITH_OUTLIERS: [&str; 2] = ["saq:3.5", "pq:6B"];

/// A valid file of every shape: with and without lists, copies, kept vectors, dropped dimensions, wide
/// ids, additive factors of one, two and four bytes, outliers, and all kinds of codes. Each has a name.
///
/// # Panics
/// If one cannot be built.
pub fn samples() -> Vec<(String, Vec<u8>)> {
    let (base, _) = synthetic(ROWS, 20, 41);
    let mut wide = base.clone();
    for row in 0..ROWS {
        let factor = 10f32.powf(row as f32 / 40.0 - 2.0);
        wide.row_mut(row).iter_mut().for_each(|x| *x *= factor);
    }
    let large: Vec<u64> = (0..ROWS as u64).map(|i| i << 40).collect();
    let small: Vec<u64> = (0..ROWS as u64).collect();
    [
        (Metric::L2, "saq:4", 1, 0.0, Keep::F16, &base, &small),
        (Metric::L2, "saq:4", 5, 1.0, Keep::F32, &base, &large),
        (Metric::Cosine, "saq:0.5", 4, 0.5, Keep::F16, &base, &small),
        (Metric::InnerProduct, "saq:2.5", 3, 0.0, Keep::None, &base, &small),
        (Metric::InnerProduct, "rabitq", 1, 0.0, Keep::F16, &base, &large),
        (Metric::L2, "erabitq:13", 1, 0.0, Keep::None, &wide, &small),
        (Metric::Cosine, "erabitq:4", 150, 1.0, Keep::F32, &base, &small),
        (Metric::L2, "saq:12", 6, 0.0, Keep::F32, &wide, &large),
        (Metric::L2, "rvq:5B", 4, 0.5, Keep::F16, &base, &small),
        (Metric::InnerProduct, "rvq:6B", 1, 0.0, Keep::None, &wide, &small),
        (Metric::InnerProduct, "pq:5B", 1, 0.0, Keep::F16, &base, &large),
        (Metric::Cosine, "opq:6B", 5, 0.5, Keep::None, &base, &small),
        (Metric::L2, "prq:2x6B", 3, 0.0, Keep::F16, &base, &small),
        (Metric::L2, "pq4:5B", 5, 0.5, Keep::F16, &base, &small),
        (Metric::InnerProduct, "opq4:6B", 1, 0.0, Keep::None, &base, &small),
        (Metric::L2, "pq3:6B", 4, 0.5, Keep::None, &base, &small),
        (Metric::Cosine, "rvq9:7B", 1, 0.0, Keep::None, &base, &small),
        (Metric::L2, "sq:6", 4, 0.5, Keep::F16, &base, &small),
        (Metric::InnerProduct, "sq:4", 1, 0.0, Keep::None, &wide, &large),
        (Metric::Cosine, "lvq:4x3", 5, 0.5, Keep::None, &base, &small),
        (Metric::InnerProduct, "lvq:8", 1, 0.0, Keep::F16, &wide, &small),
        (Metric::L2, "f16", 1, 0.0, Keep::None, &wide, &small),
        (Metric::InnerProduct, "bf16", 6, 0.5, Keep::F16, &base, &large),
        (Metric::Cosine, "f32", 5, 0.5, Keep::None, &base, &small),
        (Metric::L2, WITH_OUTLIERS[0], 5, 1.0, Keep::F16, &wide, &small),
        (Metric::InnerProduct, WITH_OUTLIERS[1], 1, 0.0, Keep::None, &wide, &large),
    ]
    .into_iter()
    .map(|(metric, quantizer, nlist, spill, keep, base, ids)| {
        let outlier_bytes = if WITH_OUTLIERS.contains(&quantizer) { 9.0 } else { 0.0 };
        let config = config(metric, quantizer, nlist);
        let config = IndexConfig { keep, spill, outlier_bytes, ..config };
        let (index, _) = IndexBuilder::new(&config).ids(ids).build(base).unwrap();
        (
            format!("{metric} {quantizer} nlist {nlist} spill {spill} {keep}"),
            index.as_bytes().to_vec(),
        )
    })
    .collect()
}
