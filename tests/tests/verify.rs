//! `verify` finds damage that opening does not look for, and says where it is.

use std::ops::ControlFlow;

use nonius::random::Random;
use nonius::{Index, OpenError};
use nonius_tests::file::{ENTRY, HEADER, kind, place, places, samples};

/// What errors call the sections.
const NAMES: [(u32, &str); 21] = [
    (kind::META, "meta"),
    (kind::MEAN, "mean"),
    (kind::ROTATION, "rotation"),
    (kind::SEGMENTS, "segments"),
    (kind::CENTROIDS, "centroids"),
    (kind::CENTROIDS_PACKED, "centroids-packed"),
    (kind::LIST_TABLE, "list-table"),
    (kind::SCAN, "scan"),
    (kind::REST, "rest"),
    (kind::IDS, "ids"),
    (kind::KEPT, "kept"),
    (kind::ROTATION_SCALES, "rotation-scales"),
    (kind::LIST_FACTORS, "list-factors"),
    (kind::SPILLED, "spilled"),
    (kind::OUTLIER_POSITIONS, "outlier-positions"),
    (kind::OUTLIER_VECTORS, "outlier-vectors"),
    (kind::CODEBOOKS, "codebooks"),
    (kind::CODEBOOK_SCALES, "codebook-scales"),
    (kind::CODEBOOK_OFFSETS, "codebook-offsets"),
    (kind::RANGES, "ranges"),
    (kind::LIST_CHECKSUMS, "list-checksums"),
];

/// Any flipped bit is found by opening or by `verify`, which names the section that has it and where
/// that starts, or the byte of the padding.
#[test]
fn verify_finds_any_flipped_bit() {
    for (name, original) in samples() {
        let index = Index::from_bytes(&original).unwrap();
        index.verify().unwrap();
        let mut bytes = original.clone();
        let mut random = Random::new(45, 1);
        // Every bit of header and table, one bit of every byte of the rest and of the padding, as
        // far as the time allows: large sections are sampled.
        let places = places(&original);
        let front = HEADER + places.len() * ENTRY + 4;
        let mut flips: Vec<(usize, u32)> =
            (0..front).flat_map(|at| (0..8).map(move |bit| (at, bit))).collect();
        let mut at = front;
        while at < original.len() {
            flips.push((at, random.below(8) as u32));
            at += 1 + random.below(16) as usize;
        }
        flips.push((original.len() - 1, 7));
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
            if let Ok(index) = Index::from_bytes(&bytes) {
                let what = format!("{name}: bit {bit} of byte {at}");
                let section = places.iter().find(|p| (p.offset..p.offset + p.length).contains(&at));
                match (index.verify(), section) {
                    (Err(OpenError::Checksum { what: found, offset, .. }), Some(section)) => {
                        assert_eq!(offset, section.offset as u64, "{what}");
                        assert!(NAMES.contains(&(section.kind, found)), "{what}: {found}");
                    }
                    (Err(OpenError::Corrupt { what: "padding", message }), None) => {
                        assert!(message.contains(&format!("offset {at} ")), "{what}: {message}");
                    }
                    (other, _) => panic!("{what}: {other:?}"),
                }
            }
            bytes[at] ^= 1 << bit;
        }
        assert!(bytes == original);
    }
}

/// The error of `verify` names the section that was changed and where it starts.
#[test]
fn verify_names_the_section() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    for (name, original) in samples() {
        let places = places(&original);
        assert!(places.iter().all(|p| NAMES.iter().any(|n| n.0 == p.kind)), "{name}");
        for (kind, wanted) in NAMES {
            let section = place(&places, kind);
            if section.length == 0 {
                continue;
            }
            let mut bytes = original.clone();
            // The lowest bit of a float's mantissa, or a code: no number that opening refuses.
            bytes[section.offset + section.length / 8 * 4] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            for index in [Index::from_bytes(&bytes), Index::open(&path), Index::read(&path)] {
                let Ok(index) = index else { continue };
                match index.verify().unwrap_err() {
                    OpenError::Checksum { what, offset, expected, found } => {
                        assert_eq!((what, offset), (wanted, section.offset as u64), "{name}");
                        assert_ne!(expected, found);
                    }
                    other => panic!("{name} {wanted}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn verify_reports_progress_and_can_be_cancelled() {
    let (_, bytes) = samples().swap_remove(1);
    let index = Index::from_bytes(&bytes).unwrap();
    let mut last = (0, 0);
    index
        .verify_with(&mut |done, total| {
            assert!(done >= last.0 && done <= total, "{done} of {total} after {last:?}");
            last = (done, total);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(last.0 == last.1 && last.1 > 0, "{last:?}");
    let error = index.verify_with(&mut |_, _| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, OpenError::Cancelled), "{error:?}");
}
