//! Routes from outside: what is made of `spec.ingress`, and what keeps it from being made. Live: no revision waits
//! for a route, and no route for a revision.

pub mod model;
pub mod rivals;
pub mod standing;
