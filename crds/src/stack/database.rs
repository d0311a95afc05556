//! The application's database.

pub use crate::common::DeletionPolicy;
use crate::common::{Resources, SecretKeyRef, Security, display_as_name, is_unset};
use crate::schema;
use crate::source::ArtifactSource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who runs the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum DatabaseType {
    /// The operator, in this namespace.
    #[default]
    Managed,
    /// Somebody else.
    External,
}

/// How a connection to PostgreSQL is encrypted and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted, the server isn't checked.
    Require,
    /// Encrypted, the certificate must be signed by the given authority.
    VerifyCa,
    /// The same, and the certificate must be for this host.
    VerifyFull,
}

display_as_name!(DatabaseType, SslMode);

/// The application's database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(has(self.type) && self.type == 'External') == has(self.external)",
        "database.external must be given exactly when database.type is External"
    ),
    validation = (
        "!(has(self.managed) && has(self.type) && self.type == 'External')",
        "database.managed must be given only when database.type is Managed"
    )
)]
pub struct Database {
    /// Who runs the database: Managed (the operator, in this namespace) or External. Immutable. Default: Managed.
    #[serde(rename = "type", default, skip_serializing_if = "is_unset")]
    pub kind: DatabaseType,
    /// The PostgreSQL that the operator runs; only with type Managed.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub managed: ManagedDatabase,
    /// The PostgreSQL that somebody else runs; needed with type External. The application's tables are made in it;
    /// roles, backups of the server and its upgrades stay with whoever runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
}

/// A PostgreSQL that the operator runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedDatabase {
    /// PostgreSQL's major version, 15 to 17. Immutable. Default: 17.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 15, max = 17))]
    pub major_version: Option<i32>,
    /// Image of PostgreSQL, with the official image's contract (POSTGRES_*, PGDATA). Default: `postgres:<majorVersion>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// The volume. Immutable.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub storage: Storage,
    /// CPU and memory. Default: requests 100m and 512Mi, memory limit 512Mi. A change restarts PostgreSQL.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub resources: Resources,
    /// PostgreSQL parameters, for example `max_connections: "100"`. A change restarts PostgreSQL. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::postgres_parameters")]
    pub parameters: BTreeMap<String, String>,
    /// Numeric user and group, 999 by default; the image's family (Debian or Alpine) must not change under existing data.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub security: Security,
    /// What happens to the volume and its credentials when the stack is deleted. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// How an empty database gets its first data. Default: the application's own schema, no data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
}

/// A volume that the operator claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size of the volume, for example `20Gi`. Default: 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::storage_size")]
    pub size: Option<String>,
    /// Name of the StorageClass. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub storage_class_name: Option<String>,
}

/// How an empty database gets its first data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// A backup to begin with. It acts on an empty database only, which is decided by looking into the database: leave it
    /// in place, and a volume that was lost begins with the backup again. Where a Backup of this stack keeps its backups
    /// in the same place, that catalogue is taken over, so that the next one goes there.
    pub restore_from: ArtifactSource,
    /// Seconds that one attempt may take, 60 to 86400. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86_400))]
    pub timeout_seconds: Option<i32>,
}

/// A PostgreSQL that somebody else runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "!(has(self.sslMode) && self.sslMode in ['VerifyCa', 'VerifyFull']) || has(self.caSecretRef)",
        "database.external.caSecretRef must be given when sslMode is VerifyCa or VerifyFull"
    )
)]
pub struct ExternalDatabase {
    /// Host name or address of the server.
    #[schemars(schema_with = "schema::host")]
    pub host: String,
    /// Port of the server. Default: 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Name of the application's database.
    #[schemars(schema_with = "schema::database_name")]
    pub database: String,
    /// Role that owns it.
    #[schemars(schema_with = "schema::role_name")]
    pub username: String,
    /// Secret key with the role's password.
    pub password_secret_ref: SecretKeyRef,
    /// How the connection is encrypted and checked. Default: Prefer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_mode: Option<SslMode>,
    /// Secret key with the authority's certificate (PEM), for VerifyCa and VerifyFull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Database in which the lock between backup, migration and restore is taken; the role must be able to connect to
    /// it. Default: the application's own, and a restore in place is then refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::database_name")]
    pub lock_database: Option<String>,
}
