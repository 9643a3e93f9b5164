//! Where a query's time goes: measured in builds with the feature `timers`, nothing otherwise.

/// A piece of a query's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "timers"), allow(unreachable_pub))]
pub enum Piece {
    /// Checks, scaling and rotation.
    Rotate,
    /// Comparing and sorting the centroids.
    Rank,
    /// The query's tables.
    Tables,
    /// The first stage: scans of blocks, bounds, survivors.
    FirstStage,
    /// Refinement of survivors, and the heap.
    Refine,
    /// Exact comparison, and the results.
    Rerank,
}

#[cfg(feature = "timers")]
impl Piece {
    /// All pieces, in the order of a query.
    pub const ALL: [Piece; 6] = [
        Piece::Rotate,
        Piece::Rank,
        Piece::Tables,
        Piece::FirstStage,
        Piece::Refine,
        Piece::Rerank,
    ];

    /// The name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Piece::Rotate => "rotation",
            Piece::Rank => "centroids",
            Piece::Tables => "tables",
            Piece::FirstStage => "first stage",
            Piece::Refine => "refinement and heap",
            Piece::Rerank => "rerank and results",
        }
    }
}

/// Adds up the time of each piece.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    #[cfg(feature = "timers")]
    last: Option<std::time::Instant>,
    #[cfg(feature = "timers")]
    spent: [std::time::Duration; Piece::ALL.len()],
}

impl Timers {
    /// Starts the watch.
    #[inline(always)]
    pub(super) fn start(&mut self) {
        #[cfg(feature = "timers")]
        {
            self.last = Some(std::time::Instant::now());
        }
    }

    /// Books the time since the start or the last lap to a piece.
    #[inline(always)]
    pub(super) fn lap(&mut self, piece: Piece) {
        #[cfg(feature = "timers")]
        {
            let now = std::time::Instant::now();
            if let Some(last) = self.last.replace(now) {
                self.spent[piece as usize] += now - last;
            }
        }
        #[cfg(not(feature = "timers"))]
        let _ = piece;
    }

    /// The time of each piece.
    #[cfg(feature = "timers")]
    pub(super) fn spent(&self) -> [(Piece, std::time::Duration); Piece::ALL.len()] {
        Piece::ALL.map(|piece| (piece, self.spent[piece as usize]))
    }
}
