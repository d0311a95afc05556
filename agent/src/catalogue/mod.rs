//! The catalogue of a stack's backups, which outlives the cluster: `<namespace>/<stack>/{owner.json,<id>/…}`. A backup
//! is what has a manifest, and the manifest is written last.

pub(crate) mod bucket;
pub(crate) mod choose;
pub(crate) mod command;
pub(crate) mod entry;
pub(crate) mod id;
pub(crate) mod manifest;
pub(crate) mod owner;
pub(crate) mod pipe;
pub(crate) mod place;
pub(crate) mod summary;
pub(crate) mod volume;
