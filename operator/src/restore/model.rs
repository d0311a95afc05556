//! The parsed restore: what `validate` makes of the custom resource, once. Builders take only this and cannot fail.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use odoo_ai_crds::source::Artifact;

use crate::backup::model::Storage;
use crate::stack::model::Stack;

/// A Restore whose spec was accepted, with every default resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name of the custom resource.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID: what it makes is known by it.
    pub uid: String,
    /// Owner reference to put on children.
    pub owner: OwnerReference,
    /// The stack whose database server is used.
    pub stack: Stack,
    /// Where the backup is.
    pub storage: Storage,
    /// Whose backups there: `<namespace>/<stack>`.
    pub catalogue: (String, String),
    /// What is restored.
    pub wanted: Wanted,
    /// Name of the database that is restored into.
    pub database: String,
    /// It takes the place of the live one, which is kept under this name.
    pub replaced: Option<String>,
    /// Only these tables of the live database are brought back; empty: it is replaced as a whole.
    pub tables: Vec<String>,
    /// Image of the Jobs: PostgreSQL's programs, of the server's major version.
    pub image: String,
    /// Compute resources of the Jobs.
    pub resources: ResourceRequirements,
    /// Numeric user of that image.
    pub user_id: i64,
    /// Group of the volumes.
    pub group_id: i64,
    /// Longest time of one attempt, seconds.
    pub timeout: i32,
    /// The catalogue becomes the stack's own.
    pub adopts: bool,
}

/// What is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of the catalogue.
    Artifact(Artifact),
    /// A plain dump, by its path in the storage.
    File(String),
}

impl Wanted {
    /// What it is, for people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Artifact(_) => "backup",
            Self::File(_) => "dump",
        }
    }

    /// Id of the backup, where it is known, or path of the dump.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Artifact(artifact) => artifact.id.as_deref().unwrap_or_default(),
            Self::File(path) => path,
        }
    }
}

impl Plan {
    /// Name of a child: `<restore>-<suffix>`.
    #[must_use]
    pub fn child(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }
}
