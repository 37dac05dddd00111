//! Random numbers that a seed gives again: xoshiro256++, its state filled by splitmix64.

/// Not for secrets.
#[derive(Debug, Clone)]
pub struct Rng([u64; 4]);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([0; 4].map(|_: u64| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        }))
    }

    pub fn word(&mut self) -> u64 {
        let state = &mut self.0;
        let result = state[0].wrapping_add(state[3]).rotate_left(23).wrapping_add(state[0]);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// From `low` to `high`, without `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + (self.unit() * (high.saturating_sub(low)) as f64) as u64
    }

    pub fn below(&mut self, count: usize) -> usize {
        self.between(0, count as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let words = |seed| {
            let mut rng = Rng::new(seed);
            [rng.word(), rng.word(), rng.word()]
        };
        assert_eq!(words(7), words(7));
        assert_ne!(words(7), words(8));
    }

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut rng = Rng::new(1);
        let count = 100_000;
        let mean = (0..count).map(|_| rng.unit()).sum::<f64>() / f64::from(count);
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let mean = (0..count).map(|_| rng.exponential(3.0)).sum::<f64>() / f64::from(count);
        assert!((mean - 3.0).abs() < 0.1, "{mean}");
        let mut seen = [0; 8];
        (0..count).for_each(|_| seen[rng.below(8)] += 1);
        assert!(seen.iter().all(|&times| (12_000..13_000).contains(&times)), "{seen:?}");
    }
}
