//! Search results and the bounded heap that collects them.

/// A search result: the id of a stored vector and its distance to the query.
///
/// The distance has the true metric's sign and scale; see [`Metric`](crate::Metric).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    /// The id that the vector was stored under.
    pub id: u64,
    /// The distance (or inner product) between it and the query.
    pub distance: f32,
}

/// What a [`TopK`] holds: something with a key, smaller is better, and an id that breaks ties.
pub trait Ranked: Copy {
    /// The key.
    fn key(&self) -> f32;
    /// The id.
    fn id(&self) -> u64;
}

impl Ranked for (f32, u64) {
    #[inline]
    fn key(&self) -> f32 {
        self.0
    }

    #[inline]
    fn id(&self) -> u64 {
        self.1
    }
}

/// A key, an id and something that goes along.
impl<T: Copy> Ranked for (f32, u64, T) {
    #[inline]
    fn key(&self) -> f32 {
        self.0
    }

    #[inline]
    fn id(&self) -> u64 {
        self.1
    }
}

/// The k entries of smallest key seen so far; ties in the key go to the smaller id.
///
/// Pushing is O(log k) for an entry that stays and O(1) for one that does not. The heap is reused
/// between queries without a new allocation as long as k does not grow.
#[derive(Clone, Debug)]
pub struct TopK<E = (f32, u64)> {
    k: usize,
    /// A binary max-heap by (key, id).
    heap: Vec<E>,
}

#[inline]
fn less<E: Ranked>(a: &E, b: &E) -> bool {
    a.key() < b.key() || (a.key() == b.key() && a.id() < b.id())
}

impl TopK {
    /// A heap for `k` pairs of key and id.
    pub fn new(k: usize) -> TopK {
        let mut top = TopK::default();
        top.reset(k);
        top
    }

    /// Offers a pair.
    #[inline]
    pub fn push(&mut self, key: f32, id: u64) {
        self.offer((key, id));
    }
}

impl<E> Default for TopK<E> {
    fn default() -> TopK<E> {
        TopK { k: 0, heap: Vec::new() }
    }
}

impl<E: Ranked> TopK<E> {
    /// Empties the heap and sets a new `k`.
    pub fn reset(&mut self, k: usize) {
        self.k = k;
        self.heap.clear();
        // A caller may ask for more results than there are vectors; the heap grows on demand.
        self.heap.reserve(k.min(4096));
    }

    /// How many entries are held at most.
    pub fn capacity(&self) -> usize {
        self.k
    }

    /// The key that a new entry must not exceed to enter: infinity while there is room.
    #[inline]
    pub fn threshold(&self) -> f32 {
        if self.heap.len() < self.k {
            f32::INFINITY
        } else {
            self.heap.first().map_or(f32::NEG_INFINITY, |worst| worst.key())
        }
    }

    /// How many entries are held.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// True if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Offers an entry. Returns whether it is among the best so far.
    #[inline]
    pub fn offer(&mut self, entry: E) -> bool {
        if self.heap.len() < self.k {
            self.heap.push(entry);
            self.sift_up(self.heap.len() - 1);
        } else if let Some(worst) = self.heap.first()
            && less(&entry, worst)
        {
            self.heap[0] = entry;
            self.sift_down(0, self.heap.len());
        } else {
            return false;
        }
        true
    }

    /// Sorts what is held, best first, and shows it. Call [`reset`](TopK::reset) before the next
    /// push.
    pub fn sorted(&mut self) -> &[E] {
        self.heap.sort_unstable_by(|a, b| a.key().total_cmp(&b.key()).then(a.id().cmp(&b.id())));
        &self.heap
    }

    fn sift_up(&mut self, mut child: usize) {
        while child > 0 {
            let parent = (child - 1) / 2;
            if !less(&self.heap[parent], &self.heap[child]) {
                break;
            }
            self.heap.swap(parent, child);
            child = parent;
        }
    }

    fn sift_down(&mut self, mut parent: usize, len: usize) {
        loop {
            let mut child = 2 * parent + 1;
            if child >= len {
                break;
            }
            if child + 1 < len && less(&self.heap[child], &self.heap[child + 1]) {
                child += 1;
            }
            if !less(&self.heap[parent], &self.heap[child]) {
                break;
            }
            self.heap.swap(parent, child);
            parent = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_full_sort(
            keys in prop::collection::vec((0u8..20, 0u64..1000), 0..200),
            k in 0usize..30,
        ) {
            let mut top = TopK::new(k);
            for &(key, id) in &keys {
                top.push(f32::from(key), id);
            }
            let mut all: Vec<(f32, u64)> =
                keys.iter().map(|&(key, id)| (f32::from(key), id)).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all.truncate(k);
            prop_assert_eq!(top.sorted(), &all[..]);
        }
    }

    #[test]
    fn threshold_is_infinite_until_full() {
        let mut top = TopK::new(2);
        assert_eq!(top.threshold(), f32::INFINITY);
        top.push(3.0, 1);
        assert_eq!(top.threshold(), f32::INFINITY);
        top.push(1.0, 2);
        assert_eq!(top.threshold(), 3.0);
        top.push(2.0, 3);
        assert_eq!(top.threshold(), 2.0);
    }
}
