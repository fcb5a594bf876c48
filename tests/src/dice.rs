//! What is random in a test comes from a seed, which a failure names; how much there is of it comes from a variable.

use std::env;

/// A small generator (xorshift64*): the same numbers from the same seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

/// How much a variable asks for; what is enough for `make test` otherwise.
pub fn amount(variable: &str, sample: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(sample)
}

/// Whether STRATA_CASES asks for every case, not for a sample.
pub fn every_case() -> bool {
    env::var("STRATA_CASES").is_ok_and(|cases| cases == "all")
}
