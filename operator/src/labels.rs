//! Labels of the children. The names are the API crate's; the sets are ours.

use std::collections::BTreeMap;

pub use odoo_ai_crds::conditions::annotations::{APPLIED_HASH, CREDENTIALS_GENERATION};
pub use odoo_ai_crds::conditions::labels::{
    BACKUP, COMPONENT, INSTANCE, MANAGED_BY, NAME, PART_OF, PURPOSE, RESTORE, RESTORE_UID, REVISION, STACK, VOLUME,
};
pub use odoo_ai_crds::conditions::{MANAGED_BY as OPERATOR, PART_OF as PLATFORM};

/// Kinds that may own a child of a stack.
pub const OWNER_KINDS: [&str; 6] = ["OdooAiStack", "ControllerRevision", "Job", "Backup", "Restore", "FeatureFlag"];

/// Annotation of new pod templates that a test asks for.
pub const TEMPLATE: &str = "odoo-ai.atmatasolutions.com/template";

/// Labels that select the pods of one component; they never change, selectors are immutable.
#[must_use]
pub fn selector(stack: &str, component: &str) -> BTreeMap<String, String> {
    to_map([(STACK, stack), (COMPONENT, component)])
}

/// The label that all objects of a stack have.
#[must_use]
pub fn stack(stack: &str) -> BTreeMap<String, String> {
    to_map([(STACK, stack)])
}

/// All labels of a child.
#[must_use]
pub fn child(stack: &str, component: &str) -> BTreeMap<String, String> {
    to_map([
        (STACK, stack),
        (COMPONENT, component),
        (INSTANCE, stack),
        (NAME, PLATFORM),
        (PART_OF, PLATFORM),
        (MANAGED_BY, OPERATOR),
    ])
}

fn to_map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
