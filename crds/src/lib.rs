//! The API of the odoo-ai-operator, types only: no client, no runtime.
//!
//! One namespace holds one environment: an [`OdooAiStack`](stack::OdooAiStack) and its policies.

#![allow(unreachable_pub, reason = "KubeSchema copies each struct, visibility included, into a function")]
#![allow(clippy::doc_markdown, reason = "the fields' docs are the CRDs' descriptions, which people read as plain text")]
#![allow(clippy::duplicated_attributes, reason = "printer columns share types and priorities")]

pub mod backup;
pub mod common;
pub mod conditions;
pub mod flag;
pub mod generate;
mod reference;
pub mod restore;
mod rules;
mod schema;
pub mod source;
pub mod stack;

pub use rules::is_reserved_env;

/// The API group of all kinds.
pub const GROUP: &str = "odoo-ai.atmatasolutions.com";
/// The API version of all kinds.
pub const VERSION: &str = "v1alpha1";
