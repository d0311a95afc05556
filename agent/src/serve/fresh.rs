//! One computation at a time, its result shared for a while.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// A value that is computed when somebody asks and it is too old. Who asks
/// meanwhile waits for that computation, so many askers cost as much as one.
#[derive(Debug)]
pub(crate) struct Fresh<T> {
    lifetime: Duration,
    slot: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Fresh<T> {
    /// Values live for `lifetime` from when they are ready.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { lifetime, slot: Mutex::new(None) }
    }

    /// The value, computed by `make` (which gets the one before) if it is too old.
    pub(crate) async fn get<F>(&self, make: impl FnOnce(Option<T>) -> F) -> T
    where
        F: Future<Output = T>,
    {
        let mut slot = self.slot.lock().await;
        let before = match slot.take() {
            Some((at, value)) if at.elapsed() < self.lifetime => {
                *slot = Some((at, value.clone()));
                return value;
            }
            other => other.map(|(_, value)| value),
        };
        let value = make(before).await;
        *slot = Some((Instant::now(), value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn many_askers_cost_one_computation() {
        let calls = AtomicU32::new(0);
        let fresh = Fresh::new(Duration::from_millis(50));
        let ask = || {
            fresh.get(|_| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                calls.fetch_add(1, Ordering::Relaxed)
            })
        };
        crate::block_on(async {
            let first = futures::join!(ask(), ask(), ask());
            assert_eq!(first, (0, 0, 0));
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert_eq!(ask().await, 1);
        })
        .expect("a runtime");
    }
}
