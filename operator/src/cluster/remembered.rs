//! What is read now and then, and serves for a while. No rollout waits for it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was read is that old at most.
const LIFETIME: Duration = Duration::from_mins(5);
/// After a refusal it is asked again so late: somebody may have given the right meanwhile.
const AFTER_A_REFUSAL: Duration = Duration::from_hours(1);
/// After any other failure.
const AFTER_A_FAILURE: Duration = Duration::from_mins(1);

/// Something that was read, and until when it serves.
#[derive(Debug)]
pub struct Remembered<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone + Default> Remembered<T> {
    /// What was read some minutes ago, or what `read` brings; the default where it can't be had. `what` is for the log.
    pub async fn get(&self, what: &str, read: impl Future<Output = kube::Result<T>>) -> T {
        let now = Instant::now();
        if let Some((until, known)) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner)
            && now < *until
        {
            return known.clone();
        }
        let (lifetime, found) = match read.await {
            Ok(found) => (LIFETIME, found),
            Err(error) => {
                tracing::info!(%error, "not known: {what}");
                let refused = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
                (if refused { AFTER_A_REFUSAL } else { AFTER_A_FAILURE }, T::default())
            }
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now + lifetime, found.clone()));
        found
    }
}
