//! The parsed policy: what `validate` makes of the custom resource, once. Builders take only this and cannot fail.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use odoo_ai_crds::source::S3;

use super::schedule::Schedule;
use crate::cluster::intent::Key;
use crate::stack::model::Stack;

/// A Backup whose spec was accepted, with every default resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name of the custom resource.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Owner reference to put on children.
    pub owner: OwnerReference,
    /// The stack whose database is backed up.
    pub stack: Stack,
    /// When a backup is made.
    pub schedule: Schedule,
    /// When one is restored as a test.
    pub verification: Schedule,
    /// Nothing runs by the schedules.
    pub suspended: bool,
    /// Nor while the database is being replaced; what passes meanwhile is caught up.
    pub paused: Pause,
    /// Where backups are kept.
    pub storage: Storage,
    /// Good ones that are kept.
    pub keep_last: i32,
    /// Those before a migration or a restore that are kept besides.
    pub keep_pre_migration: i32,
    /// Seconds after which the last verification is too old.
    pub verification_max_age: i32,
    /// Image of the Jobs: PostgreSQL's programs, of the server's major version.
    pub image: String,
    /// Compute resources of the Jobs.
    pub resources: ResourceRequirements,
    /// Numeric user of that image.
    pub user_id: i64,
    /// Group of the volumes.
    pub group_id: i64,
    /// Longest time of one run, seconds.
    pub timeout: i32,
    /// The owner whose artifacts are taken over.
    pub adopt: Option<String>,
    /// Artifacts go with the Backup, and so does the claim that was made for them.
    pub delete_artifacts: bool,
}

/// What is not started for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// Everything is.
    #[default]
    Nothing,
    /// What the schedules say: the database waits for its first data.
    Schedules,
    /// Requests neither: the database is being replaced.
    All,
}

/// Where backups are kept: at least one of the two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storage {
    /// A volume.
    pub volume: Option<Volume>,
    /// A bucket.
    pub bucket: Option<S3>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Name of its claim.
    pub claim: String,
    /// The claim is made by the operator.
    pub made: Option<Made>,
}

/// A claim that the operator makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its size, a quantity.
    pub size: String,
    /// Its `StorageClass`; `None`: the cluster's default.
    pub class: Option<String>,
}

impl Policy {
    /// Name of a child: `<backup>-<suffix>`.
    #[must_use]
    pub fn child(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    /// Kind, namespace and name of a child.
    #[must_use]
    pub fn key(&self, kind: &str, suffix: &str) -> Key {
        Key { kind: kind.to_owned(), namespace: self.namespace.clone(), name: self.child(suffix) }
    }
}

impl Storage {
    /// Where the manifest is the success, for people: `volume nightly-backups` or `s3://bucket/folder`.
    #[must_use]
    pub fn location(&self) -> String {
        match (&self.volume, &self.bucket) {
            (Some(volume), _) => format!("volume {}", volume.claim),
            (None, Some(S3 { endpoint, bucket, prefix, .. })) => {
                let at = endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
                let prefix = prefix.as_ref().map(|prefix| format!("/{prefix}")).unwrap_or_default();
                format!("s3://{bucket}{prefix}{at}")
            }
            (None, None) => String::new(),
        }
    }

    /// Nothing of it is elsewhere than on this host.
    #[must_use]
    pub fn is_on_this_host_only(&self) -> bool {
        self.bucket.is_none()
    }
}
