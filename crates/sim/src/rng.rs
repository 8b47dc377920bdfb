//! The only source of chance: xoshiro256**, seeded through splitmix64. Written out here so that a seed means the same
//! world on every platform and with every version of every dependency. Integers only.
//!
//! Algorithms: Blackman and Vigna, "Scrambled linear pseudorandom number generators" (2018).

/// A deterministic generator.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self { state: std::array::from_fn(|_| splitmix(&mut mixer)) }
    }

    /// A generator of its own, so that one part of the world that draws more does not change another.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.draw())
    }

    /// 64 random bits.
    pub(crate) fn draw(&mut self) -> u64 {
        let [s0, s1, s2, s3] = self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (s2, s3) = (s2 ^ s0, s3 ^ s1);
        self.state = [s0 ^ s3, s1 ^ s2, s2 ^ (s1 << 17), s3.rotate_left(45)];
        result
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `range.0` to `range.1`, both included.
    pub(crate) fn between(&mut self, range: (u64, u64)) -> u64 {
        range.0 + self.below(range.1.saturating_sub(range.0).saturating_add(1))
    }

    /// True in `permille` of a thousand cases.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// An index of a slice with `len` elements; `None` if it is empty.
    pub(crate) fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.below(len as u64) as usize)
    }

    /// One of the elements; `None` if there are none.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        self.index(from.len()).map(|index| &from[index])
    }
}

fn splitmix(mixer: &mut u64) -> u64 {
    *mixer = mixer.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*mixer ^ (*mixer >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        // splitmix64 of 0 is published with the algorithm; the rest was computed once and must never change.
        let mut mixer = 0;
        assert_eq!(splitmix(&mut mixer), 0xe220_a839_7b1d_cdaf);
        let mut rng = Rng::new(0);
        let first = [rng.draw(), rng.draw()];
        assert_eq!(first, [11_091_344_671_253_066_420, 13_793_997_310_169_335_082]);
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut rng = Rng::new(7);
        let drawn: std::collections::BTreeSet<_> = (0..1_000).map(|_| rng.between((3, 9))).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), (3..=9).collect::<Vec<_>>());
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
        assert!(!(0..1_000).any(|_| rng.chance(0)) && (0..1_000).all(|_| rng.chance(1_000)));
    }
}
