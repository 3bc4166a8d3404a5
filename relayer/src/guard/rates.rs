//! How often: leaky buckets, one for each caller.

use std::{fmt, hash::Hash, num::NonZeroU32, time::Duration};

use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
};

use super::settings::Rate;

/// One bucket.
pub struct Bucket {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

/// A bucket for each key; none where there is no limit.
pub struct Buckets<K: Clone + Hash + Eq>(Option<Keyed<K>>);

struct Keyed<K: Clone + Hash + Eq> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
}

impl Rate {
    /// `None` for no limit.
    fn quota(self) -> Option<Quota> {
        let rate = NonZeroU32::new(self.per_minute)?;
        let burst = if self.burst == 0 {
            self.per_minute.div_ceil(60)
        } else {
            self.burst
        };
        Some(Quota::per_minute(rate).allow_burst(NonZeroU32::new(burst)?))
    }
}

impl Bucket {
    /// A bucket, if there is a limit.
    pub fn new(rate: Rate) -> Option<Self> {
        Some(Self {
            limiter: RateLimiter::direct(rate.quota()?),
            clock: DefaultClock::default(),
        })
    }

    /// Takes one, or tells how long to wait for it.
    pub fn take(&self) -> Result<(), Duration> {
        self.limiter
            .check()
            .map_err(|refused| wait(&refused, &self.clock))
    }
}

impl<K: Clone + Hash + Eq> Buckets<K> {
    /// Buckets for a rate.
    pub fn new(rate: Rate) -> Self {
        Self(rate.quota().map(|quota| Keyed {
            limiter: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
        }))
    }

    /// Takes one of a key's, or tells how long to wait for it.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        match &self.0 {
            Some(keyed) => keyed
                .limiter
                .check_key(key)
                .map_err(|refused| wait(&refused, &keyed.clock)),
            None => Ok(()),
        }
    }

    /// Forgets buckets that are as good as new.
    pub fn sweep(&self) {
        if let Some(keyed) = &self.0 {
            keyed.limiter.retain_recent();
            keyed.limiter.shrink_to_fit();
        }
    }
}

fn wait<P: Reference>(refused: &NotUntil<P>, clock: &impl Clock<Instant = P>) -> Duration {
    refused.wait_time_from(clock.now())
}

impl<K: Clone + Hash + Eq> fmt::Debug for Buckets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.as_ref().map(|keyed| keyed.limiter.len());
        f.debug_tuple("Buckets").field(&keys).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const SLOW: Rate = Rate {
        per_minute: 1,
        burst: 3,
    };

    #[test]
    fn each_key_has_its_own_bucket() {
        let buckets = Buckets::new(SLOW);
        for _ in 0..3 {
            assert_eq!(buckets.take(&"a"), Ok(()));
        }
        let wait = buckets.take(&"a").unwrap_err();
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60));
        assert_eq!(buckets.take(&"b"), Ok(()));
    }

    #[test]
    fn no_rate_is_no_limit_and_keeps_nothing() {
        let buckets = Buckets::new(Rate::default());
        assert!((0..10_000).all(|key| buckets.take(&key).is_ok()));
        assert!(buckets.0.is_none());
        assert!(Bucket::new(Rate::default()).is_none());
    }

    #[test]
    fn a_bucket_that_is_full_again_is_forgotten() {
        let fast = Rate {
            per_minute: u32::MAX,
            burst: 1,
        };
        let buckets = Buckets::new(fast);
        for key in 0..1_000 {
            assert_eq!(buckets.take(&key), Ok(()));
        }
        // One of these fills anew in 14 nanoseconds.
        buckets.sweep();
        assert!(buckets.0.as_ref().unwrap().limiter.is_empty());
        let slow = Buckets::new(SLOW);
        assert_eq!(slow.take(&1), Ok(()));
        slow.sweep();
        assert_eq!(slow.0.as_ref().unwrap().limiter.len(), 1);
    }

    #[test]
    fn a_second_s_worth_comes_at_once_if_nothing_is_said() {
        let quota = |per_minute| {
            let rate = Rate {
                per_minute,
                burst: 0,
            };
            rate.quota().unwrap().burst_size().get()
        };
        assert_eq!((quota(600), quota(1), quota(61)), (10, 1, 2));
    }
}
