//! Routes from outside: what is made of `spec.ingress`, and what keeps it from being made. Live: no revision waits
//! for a route, and no route for a revision.

pub mod backends;
pub mod certificate;
pub mod directory;
pub mod entrance;
pub mod model;
pub mod poller;
pub mod probe;
pub mod rivals;
pub mod standing;
pub mod verdict;
