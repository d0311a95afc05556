//! The Lease: one operator acts at a time, also while a Deployment is replaced.

use std::time::{Duration, Instant};

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};

/// Name of the Lease.
const NAME: &str = "odoo-ai-operator";
/// Seconds that the Lease is valid after its last renewal.
const DURATION: u64 = 30;
/// Seconds before its end at which it is renewed.
const GRACE: u64 = 10;

/// A Lease that this process may hold.
pub struct Leader {
    manager: LeaseManager,
}

impl Leader {
    /// Prepares the Lease; it is made if it doesn't exist.
    ///
    /// # Errors
    /// The API server can't be asked.
    pub async fn new(client: Client, namespace: &str, identity: &str) -> Result<Self, LeaseManagerError> {
        let manager = LeaseManagerBuilder::new(client, NAME)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .with_field_manager(crate::cluster::FIELD_MANAGER)
            .build()
            .await?;
        Ok(Self { manager })
    }

    /// Resolves when the Lease is held.
    ///
    /// # Errors
    /// The API server can't be asked.
    pub async fn acquire(&self) -> Result<(), LeaseManagerError> {
        while !self.manager.changed().await? {}
        Ok(())
    }

    /// Keeps the Lease; resolves when it is lost, with the error that lost it. An API server that is
    /// away for a moment loses nothing: the Lease is valid for longer than that.
    pub async fn lost(&self) -> Option<LeaseManagerError> {
        let mut failing_since: Option<Instant> = None;
        loop {
            match self.manager.changed().await {
                Ok(true) => failing_since = None,
                Ok(false) => return None,
                Err(error) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > Duration::from_secs(GRACE) {
                        return Some(error);
                    }
                    tracing::warn!(%error, "lease not renewed, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Gives the Lease up, so that a successor needn't wait for its end.
    pub async fn release(&self) {
        if let Err(error) = self.manager.release().await {
            tracing::warn!(%error, "lease not released; a successor waits for its end");
        }
    }
}
