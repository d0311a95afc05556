//! The thin layer that talks to the API server: one apply function, one delete function, one status
//! writer, the caches, events. Nothing here decides.

pub mod apply;
pub mod bell;
pub mod cache;
pub mod cached;
pub mod children;
pub mod client;
pub mod covers;
pub mod delete;
pub mod events;
pub mod finalizer;
pub mod intent;
pub mod nodes;
pub mod pending;
pub mod remembered;
pub mod served;
pub mod slim;
pub mod status;
pub mod traefik;
pub mod watch;

/// Field manager of everything this controller applies.
pub const FIELD_MANAGER: &str = "odoo-ai-operator";
