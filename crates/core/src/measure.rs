//! Measurements that the autoscaler is given: averages that follow what is, without keeping every value.

/// Weight of the newest value in a moving average: after ten values the old ones have a tenth of it.
const NEWEST: f64 = 0.2;
/// Arrivals are averaged over about this long: longer than a burst, shorter than a scale-down window.
const RATE_OVER_MS: f64 = 10_000.0;

/// A moving average.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Average(Option<f64>);

impl Average {
    pub fn add(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |average| average + (value - average) * NEWEST));
    }

    /// None before the first value.
    pub fn get(self) -> Option<f64> {
        self.0
    }
}

/// How many arrive in a second; what came earlier counts less.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    per_s: f64,
    at_ms: f64,
}

impl Rate {
    /// `now_ms` from any clock that does not go back.
    pub fn arrived(&mut self, now_ms: f64) {
        self.per_s = self.per_s(now_ms) + 1000.0 / RATE_OVER_MS;
        self.at_ms = now_ms;
    }

    pub fn per_s(self, now_ms: f64) -> f64 {
        self.per_s * (-(now_ms - self.at_ms).max(0.0) / RATE_OVER_MS).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_follows_what_is() {
        let mut average = Average::default();
        assert_eq!(average.get(), None);
        average.add(100.0);
        assert_eq!(average.get(), Some(100.0));
        (0..20).for_each(|_| average.add(10.0));
        assert!(average.get().is_some_and(|value| (10.0..12.0).contains(&value)), "{average:?}");
    }

    #[test]
    fn a_rate_comes_and_goes() {
        let mut rate = Rate::default();
        (0..1000).for_each(|index| rate.arrived(f64::from(index) * 100.0));
        assert!((9.0..11.0).contains(&rate.per_s(100_000.0)), "{rate:?}");
        assert!(rate.per_s(200_000.0) < 0.01);
    }
}
