//! Chance that can be repeated.

/// A sequence of numbers that looks random and is the same for the same seed: SplitMix64,
/// <https://prng.di.unimi.it/splitmix64.c>.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A sequence for `who` in the run of `seed`.
    pub const fn new(seed: u64, who: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ who.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    /// A number below `sides`, which is not zero.
    pub fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) >> 32).unwrap_or_default() % sides
    }

    /// Whether one throw out of `sides` came out.
    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}
