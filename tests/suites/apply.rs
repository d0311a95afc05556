//! The one function that writes children, and the whole reconcile, against a real API server: what
//! is sent is counted, because a steady stack costs no write at all, and what the server makes of
//! an object (defaults, rewritten quantities, fields of others) must not look like drift.

#[path = "apiserver/causes.rs"]
mod causes;
#[path = "../../operator/tests/sweep/compare.rs"]
mod compare;
#[path = "apiserver/crds.rs"]
#[allow(dead_code, reason = "shared with other suites")]
mod crds;
#[path = "apiserver/credentials.rs"]
mod credentials;
#[path = "apiserver/drift.rs"]
mod drift;
#[path = "apiserver/leftovers.rs"]
mod leftovers;
#[path = "apiserver/lives.rs"]
mod lives;
#[path = "apiserver/owners.rs"]
mod owners;
#[path = "apiserver/prune.rs"]
mod prune;
#[path = "apiserver/requests.rs"]
#[allow(dead_code, reason = "shared with other suites")]
mod requests;
#[path = "apiserver/room.rs"]
mod room;
#[path = "apiserver/routes.rs"]
mod routes;
#[path = "apiserver/stack.rs"]
mod stack;
#[path = "apiserver/stage.rs"]
mod stage;
#[path = "apiserver/statuses.rs"]
mod statuses;
#[path = "apiserver/surroundings.rs"]
mod surroundings;
#[path = "apiserver/sweep.rs"]
mod sweep;
