//! What a program may do with bytes that claim to be an index, all of it at once.

use nonius::{
    FetchVector, Index, Keep, MatrixView, OpenError, OpenOptions, SearchError, SearchParams,
    SourceError,
};
use nonius_simd::{Level, with_level};

/// What became of some bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// They are no index: the error's text.
    Refused(String),
    /// They were opened and searched.
    Searched,
}

/// Opens bytes and, if that works, searches them in every way; with `scalar` at the level without
/// special instructions.
///
/// # Panics
/// If the library panics, or breaks a promise: an error that says nothing or too much, an error of
/// the system where nothing is asked of the system, more results than there are vectors.
pub fn open_and_search(bytes: &[u8], scalar: bool) -> Outcome {
    match Index::from_bytes(bytes) {
        Ok(index) => {
            let _ = index.verify();
            search_in_every_way(&index, scalar);
            drop(index);
            search_checked(bytes);
            Outcome::Searched
        }
        Err(error) => Outcome::Refused(refusal(&error)),
    }
}

/// The text of an error from opening bytes in memory.
///
/// # Panics
/// If it is an error that such bytes cannot cause, or its text is empty or endless.
pub fn refusal(error: &OpenError) -> String {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 500, "{text}");
    // Memory is whole: nothing is left to the system.
    assert!(!matches!(error, OpenError::Io { .. } | OpenError::Cancelled), "{error:?}");
    text
}

/// What an error is about: its text without what it has found, which is as various as the files.
pub fn reason(text: &str) -> String {
    // Numbers, hexadecimal ones among them; and the first bytes of what is no index.
    let text = text.split('[').next().unwrap_or_default();
    let words = text.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

/// Searches an index with few and many results, with and without rerank, with the narrowest and
/// the widest confidence, by single queries and by batches.
///
/// # Panics
/// If the library panics or finds more than there is.
pub fn search_in_every_way(index: &Index, scalar: bool) {
    let info = index.info();
    assert_eq!(info.vectors, index.len());
    let query: Vec<f32> = (0..index.dim()).map(|i| (i as f32 * 0.7).sin() + 0.1).collect();
    let search = || {
        let mut searcher = index.searcher();
        for (k, nprobe, rerank, confidence) in
            [(1, 1, 0, 3.0), (10, 1000, 0, 0.0), (1000, 1000, 0, 3.0), (5, 1000, 40, f32::MAX)]
        {
            let rerank = if info.keep == Keep::None { 0 } else { rerank };
            let params = SearchParams { nprobe, rerank, confidence, ..SearchParams::default() };
            match searcher.search(&query, k, &params) {
                Ok(found) => assert!(found.len() <= k.min(info.vectors)),
                // The query may be huge in the units that the file claims.
                Err(error) => assert!(matches!(error, SearchError::Query(_)), "{error:?}"),
            }
        }
    };
    if scalar {
        with_level(Level::Scalar, search)
    } else {
        search()
    }
    let both: Vec<f32> = query.iter().copied().chain(query.iter().map(|x| -x)).collect();
    let both = MatrixView::new(index.dim(), &both).expect("a dimension and finite values");
    for (patience, centroid_ratio, fetch) in [(0, None, None), (1, Some(1.5), Some(&Halves))] {
        let fetch = fetch.map(|store| store as &dyn FetchVector);
        let rerank = if fetch.is_some() { 20 } else { 0 };
        let params = SearchParams {
            nprobe: 1000,
            rerank,
            patience,
            centroid_ratio,
            ..SearchParams::default()
        };
        match index.search_batch_with(both, 10, &params, fetch) {
            Ok((found, _)) => {
                assert_eq!(found.len(), 2);
                assert!(found.iter().all(|found| found.len() <= info.vectors.min(10)));
            }
            Err(error) => assert!(matches!(error, SearchError::Query(_)), "{error:?}"),
        }
    }
}

/// Opens and searches with checks of lists.
///
/// # Panics
/// If the library panics, or reports anything but damage and what unchecked searches report.
pub fn search_checked(bytes: &[u8]) {
    let index = match OpenOptions::new().check_lists(true).from_bytes(bytes) {
        Ok(index) => index,
        Err(error) => {
            refusal(&error);
            return;
        }
    };
    let query = vec![0.25; index.dim()];
    let rerank = if index.keep() == Keep::None { 0 } else { 20 };
    let params = SearchParams { nprobe: 1000, rerank, ..SearchParams::default() };
    match index.search(&query, 10, &params) {
        Ok(found) => assert!(found.len() <= index.len().min(10)),
        Err(SearchError::Query(_)) => {}
        Err(SearchError::Damaged { list, .. }) => assert!(list < index.nlist()),
        Err(error) => panic!("{error:?}"),
    }
}

/// A store that has the same vector under every id.
struct Halves;

impl FetchVector for Halves {
    fn fetch(&self, _id: u64, out: &mut [f32]) -> Result<(), SourceError> {
        out.fill(0.5);
        Ok(())
    }
}
