//! Searches in indexes that are larger than the memory of the device: the lists that a batch asks for go there in
//! shares, one while the one before is searched, and what is found in each is merged.

use nonius::raw::BLOCK;
use nonius::{MatrixView, Neighbor, SearchParams};

use crate::context::lock;
use crate::error::GpuError;
use crate::pipeline::Outcome;
use crate::prepare::{Batch, Sizes};
use crate::search::{Found, GpuTimings};
use crate::upload::{GpuIndex, Span};

/// Queries that are prepared at a time to see which lists they ask for.
const QUERIES: usize = 1024;

impl GpuIndex<'_> {
    /// A search with codes that are sent in shares of at most so many blocks.
    pub(crate) fn streamed(
        &self,
        share: usize,
        queries: MatrixView<'_>,
        k: usize,
        held: usize,
        params: &SearchParams,
        timed: bool,
        timings: &mut GpuTimings,
    ) -> Result<Vec<Vec<Neighbor>>, GpuError> {
        let (wanted, probes) = self.wanted(queries, k, params)?;
        let shares = shares(wanted, share);
        let mut all: Vec<Found> = vec![Found::new(); queries.rows()];
        let mut next = shares.first().map(|spans| self.part(spans)).transpose()?;
        let mut following = shares.iter().skip(1);
        while let Some(part) = next {
            // The buffers of the search before.
            std::mem::swap(&mut *lock(&part.workspace), &mut *lock(&self.workspace));
            let spans = following.next();
            let (found, uploaded) = rayon::join(
                || part.here::<Found>(queries, k, held, params, timed, timings),
                || spans.map(|spans| self.part(spans)).transpose(),
            );
            std::mem::swap(&mut *lock(&part.workspace), &mut *lock(&self.workspace));
            for (all, found) in all.iter_mut().zip(found?) {
                all.extend(found);
                all.sort_unstable();
                all.truncate(held);
            }
            next = uploaded?;
        }
        // What each share counts for itself.
        timings.stats.lists = probes as u64;
        timings.stats.reranked = if params.rerank > 0 { (held * all.len()) as u64 } else { 0 };
        Outcome::of(self, queries.data(), all, k, params)
    }

    /// The lists that any query asks for, and how many all of them ask for together.
    fn wanted(
        &self,
        queries: MatrixView<'_>,
        k: usize,
        params: &SearchParams,
    ) -> Result<(Vec<Span>, usize), GpuError> {
        let nlist = self.lists.len();
        let mut wanted = vec![false; nlist];
        let sizes = Sizes::of(&self.shape, self.raw.dims());
        let mut batch = Batch::default();
        let mut probes = 0;
        for rows in queries.data().chunks(QUERIES * self.index.dim()) {
            batch.fill(self, sizes, rows, k, params)?;
            probes += batch.probes();
            for (wanted, here) in wanted.iter_mut().zip(batch.wanted(nlist)) {
                *wanted |= here;
            }
        }
        let lists = (0..nlist).filter(|&list| wanted[list]);
        Ok((lists.filter_map(|list| self.span(list)).collect(), probes))
    }
}

/// Cuts lists into shares of at most so many blocks, in their order; large lists are in several.
fn shares(spans: Vec<Span>, most: usize) -> Vec<Vec<Span>> {
    let mut shares: Vec<Vec<Span>> = Vec::new();
    let mut room = 0;
    for mut span in spans {
        while span.vectors > 0 {
            if room == 0 {
                shares.push(Vec::new());
                room = most;
            }
            let vectors = span.vectors.min(room * BLOCK);
            let part = Span { vectors, ..span };
            let blocks = part.blocks();
            if let Some(share) = shares.last_mut() {
                share.push(part);
            }
            room -= blocks;
            span = Span {
                block: span.block + blocks,
                position: span.position + vectors,
                vectors: span.vectors - vectors,
                ..span
            };
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_every_vector_once() {
        let mut spans = Vec::new();
        let (mut block, mut position) = (0, 0);
        for (list, vectors) in [1, 32, 700, 33, 31, 64, 5].into_iter().enumerate() {
            spans.push(Span { list, block, position, vectors });
            block += vectors.div_ceil(BLOCK);
            position += vectors;
        }
        for most in [1, 2, 7, 100] {
            let shares = shares(spans.clone(), most);
            let mut next = (0, 0);
            for share in &shares {
                assert!(!share.is_empty());
                assert!(share.iter().map(Span::blocks).sum::<usize>() <= most);
                // No list twice, and in their order.
                assert!(share.windows(2).all(|two| two[0].list < two[1].list));
                for span in share {
                    assert_eq!((span.block, span.position), next);
                    next = (span.block + span.blocks(), span.position + span.vectors);
                }
            }
            assert_eq!(next, (block, position));
            assert!(most < 100 || shares.len() == 1);
        }
        assert!(shares(Vec::new(), 3).is_empty());
    }
}
