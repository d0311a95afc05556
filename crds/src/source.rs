//! Where a backup's artifact is: shared by `bootstrap.restoreFrom` and `Restore`.

use crate::common::{LocalRef, display_as_name};
use crate::schema;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which artifact of a catalogue is meant, where no id is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum ArtifactSelector {
    /// The newest good one.
    Latest,
    /// The newest one that a verification restored completely.
    LatestVerified,
}

display_as_name!(ArtifactSelector);

/// Where an artifact is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.backupRef) != has(self.storage)",
        "the source must have exactly one of backupRef and storage"
    ),
    validation = (
        "!has(self.file) || has(self.storage)",
        "the source's file must be given only with storage: a Backup has artifacts, not files"
    ),
    validation = (
        "has(self.artifact) != has(self.file)",
        "the source must have exactly one of artifact and file"
    ),
    validation = (
        "!has(self.catalogue) || (has(self.storage) && has(self.artifact))",
        "the source's catalogue must be given only with storage and artifact"
    )
)]
pub struct ArtifactSource {
    /// A Backup of this namespace, whose storage is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<LocalRef>,
    /// A storage location, for example the bucket of a lost cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<SourceStorage>,
    /// Whose artifacts in the storage: `<namespace>/<stack>`. Default: this namespace and stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::catalogue")]
    pub catalogue: Option<String>,
    /// The artifact of the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// A plain `pg_dump` in the storage instead of an artifact, for example `old/backup.sql.gz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dump_file")]
    pub file: Option<String>,
}

/// An artifact of a catalogue: by id, or by what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.id) != has(self.selector)", "artifact must have exactly one of id and selector")
)]
pub struct Artifact {
    /// The artifact's id, as the Backup's status lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::artifact_id")]
    pub id: Option<String>,
    /// Latest or LatestVerified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<ArtifactSelector>,
}

/// A place that artifacts are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.persistentVolumeClaim) != has(self.s3)",
        "the source's storage must have exactly one of persistentVolumeClaim and s3"
    )
)]
pub struct SourceStorage {
    /// An existing volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<SourceVolume>,
    /// A bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// An existing volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceVolume {
    /// Name of a PersistentVolumeClaim in this namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub claim_name: String,
}

/// A bucket of an S3-compatible store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// URL of the store, for example `https://fsn1.your-objectstorage.com`. Default: Amazon's for the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::url")]
    pub endpoint: Option<String>,
    /// Region, for example `eu-central-1`. Default: us-east-1, which most other stores accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::region")]
    pub region: Option<String>,
    /// Name of the bucket.
    #[schemars(schema_with = "schema::bucket")]
    pub bucket: String,
    /// Folder in the bucket, without a slash at either end. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_prefix")]
    pub prefix: Option<String>,
    /// Secret with the keys accessKeyId and secretAccessKey, and sessionToken where one is used.
    pub credentials_secret_ref: LocalRef,
}
