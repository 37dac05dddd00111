//! When a call that failed is tried again.

use crate::function::Retries;

impl Retries {
    /// Milliseconds to wait after the call's `failure`-th failure, from 1: the initial delay, then each one the
    /// coefficient times longer, up to the largest.
    pub fn delay_ms(&self, failure: u32) -> u64 {
        let steps = i32::try_from(failure.saturating_sub(1)).unwrap_or(i32::MAX);
        let delay = self.initial_delay_ms as f64 * self.backoff_coefficient.powi(steps);
        // A conversion from a number that is too large gives the largest, and from none (0 times infinity) gives 0.
        (delay as u64).min(self.max_delay_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(retries: Retries) -> Vec<u64> {
        (1..=8).map(|failure| retries.delay_ms(failure)).collect()
    }

    #[test]
    fn delays_grow_to_the_largest() {
        let retries = Retries { max_retries: 8, ..Retries::default() };
        assert_eq!(delays(retries), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn a_coefficient_of_one_is_a_fixed_delay() {
        let retries = Retries { backoff_coefficient: 1.0, initial_delay_ms: 50, ..Retries::default() };
        assert_eq!(delays(retries), [50; 8]);
    }

    #[test]
    fn no_number_is_too_large() {
        let retries = Retries { backoff_coefficient: 10.0, ..Retries::default() };
        assert_eq!(retries.delay_ms(u32::MAX), 60_000);
        assert_eq!(Retries { initial_delay_ms: 0, ..retries }.delay_ms(u32::MAX), 0);
    }
}
