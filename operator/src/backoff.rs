//! Exponential back-off per object, with jitter; kube-runtime leaves this to the controller.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use rand::Rng;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// Counts failures in a row for each object.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: Mutex<HashMap<K, u32>>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self { failures: Mutex::default() }
    }
}

impl<K: Hash + Eq> Backoff<K> {
    /// One more failure: how long to wait, between half and all of 1 s × 2ⁿ, at most 5 minutes.
    pub fn failed(&self, key: K) -> Duration {
        let mut failures = self.lock();
        let count = failures.entry(key).or_default();
        let ceiling = delay(*count);
        *count = count.saturating_add(1);
        ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// The object reconciled: the next failure starts from the beginning.
    pub fn succeeded(&self, key: &K) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, u32>> {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn delay(failures: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_a_limit_and_starts_again_after_success() {
        assert_eq!(delay(0), FIRST);
        assert_eq!(delay(3), Duration::from_secs(8));
        assert_eq!(delay(u32::MAX), LONGEST);
        let backoff = Backoff::default();
        for _ in 0..20 {
            assert!(backoff.failed("a") <= LONGEST);
        }
        assert!(backoff.failed("a") >= LONGEST / 2);
        backoff.succeeded(&"a");
        assert!(backoff.failed("a") <= FIRST);
    }
}
