//! A vector that is cheap to clone: shared chunks, copied only where they are written.
//!
//! Cloning a state for a snapshot copies one pointer for each chunk; the first write to a chunk afterwards
//! copies that chunk.

use std::sync::Arc;

/// Elements in a chunk: a compromise between the pointers of a clone and the copying of a write.
const CHUNK: usize = 128;

/// Copy-on-write vector.
#[derive(Clone, Debug)]
pub struct Chunked<T> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Chunked<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The element at `index`, to be changed; copies its chunk if a clone shares it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        Arc::make_mut(self.chunks.get_mut(index / CHUNK)?).get_mut(index % CHUNK)
    }

    /// Adds an element at the end.
    pub fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK) {
            // Most are short; of a long one every further chunk will be full.
            let room = if self.len == 0 { 0 } else { CHUNK };
            self.chunks.push(Arc::new(Vec::with_capacity(room)));
        }
        let last = self.chunks.last_mut().expect("a chunk was just made sure of");
        Arc::make_mut(last).push(value);
        self.len += 1;
    }

    /// All elements from `start` on.
    pub fn iter_from(&self, start: usize) -> impl Iterator<Item = &T> {
        let first = (start / CHUNK).min(self.chunks.len());
        self.chunks[first..].iter().flat_map(|chunk| chunk.iter()).skip(start.saturating_sub(first * CHUNK))
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.iter_from(0)
    }
}

impl<T: Clone> FromIterator<T> for Chunked<T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let mut all = Self::default();
        iter.into_iter().for_each(|value| all.push(value));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_vector_at_every_chunk_border() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let all: Chunked<usize> = (0..len).collect();
            assert_eq!(all.len(), len);
            assert_eq!(all.iter().copied().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
            for start in [0, 1, len / 2, len, len + 1, len + CHUNK] {
                let expected: Vec<_> = (start.min(len)..len).collect();
                assert_eq!(all.iter_from(start).copied().collect::<Vec<_>>(), expected, "{len} from {start}");
            }
        }
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut all: Chunked<usize> = (0..300).collect();
        let before = all.clone();
        *all.get_mut(7).expect("present") = 1000;
        all.push(300);
        assert_eq!((before.get(7), before.len()), (Some(&7), 300));
        assert_eq!((all.get(7), all.len()), (Some(&1000), 301));
        assert!(Arc::ptr_eq(&all.chunks[1], &before.chunks[1]), "untouched chunks stay shared");
    }
}
