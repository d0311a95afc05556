//! The Lease: one operator acts at a time, also while a Deployment is replaced.

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

    /// Keeps the Lease; resolves when it is lost, with the error that lost it.
    pub async fn lost(&self) -> Option<LeaseManagerError> {
        loop {
            match self.manager.changed().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(error),
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
