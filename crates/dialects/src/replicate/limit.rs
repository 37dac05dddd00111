//! Rate limits as the API tells them: a bucket of tokens that fills while nobody asks.

/// Milliseconds over which a limit is counted.
const PERIOD_MS: f64 = 60_000.0;

/// One class of requests. A bucket that is full lets a minute's worth pass at once.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_minute: f64,
    tokens: f64,
    seen_ms: u64,
}

/// What the headers of an answer say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub allowed: bool,
    /// `ratelimit-remaining`: requests that may follow at once.
    pub remaining: u64,
    /// `ratelimit-reset`: seconds until the limit is whole again; of a refusal, until the next request may come.
    pub reset_s: u64,
}

impl Bucket {
    /// `per_minute` is at least 1.
    pub fn new(per_minute: u64, now_ms: u64) -> Self {
        let per_minute = per_minute.max(1) as f64;
        Self { per_minute, tokens: per_minute, seen_ms: now_ms }
    }

    /// Counts one request.
    pub fn take(&mut self, now_ms: u64) -> Standing {
        let passed = now_ms.saturating_sub(self.seen_ms) as f64;
        self.seen_ms = self.seen_ms.max(now_ms);
        self.tokens = (self.tokens + passed * self.per_minute / PERIOD_MS).min(self.per_minute);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        let wanted = if allowed { self.per_minute } else { 1.0 };
        let reset_ms = (wanted - self.tokens) * PERIOD_MS / self.per_minute;
        Standing {
            allowed,
            remaining: self.tokens as u64,
            reset_s: (reset_ms / 1000.0).ceil().max(1.0) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_bucket_says_what_replicate_says() {
        let standing = Bucket::new(3000, 0).take(0);
        assert_eq!(standing, Standing { allowed: true, remaining: 2999, reset_s: 1 });
    }

    #[test]
    fn an_empty_bucket_refuses_until_it_has_one_again() {
        let mut bucket = Bucket::new(2, 0);
        assert_eq!(bucket.take(0), Standing { allowed: true, remaining: 1, reset_s: 30 });
        assert_eq!(bucket.take(0), Standing { allowed: true, remaining: 0, reset_s: 60 });
        assert_eq!(bucket.take(0), Standing { allowed: false, remaining: 0, reset_s: 30 });
        assert!(!bucket.take(29_000).allowed);
        assert!(bucket.take(31_000).allowed);
        assert!(!bucket.take(31_000).allowed);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1, 60_000);
        assert!(bucket.take(60_000).allowed);
        assert!(!bucket.take(0).allowed);
        assert!(!bucket.take(60_000).allowed);
    }
}
