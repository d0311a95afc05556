//! What the API server would accept and refuse, tried without one: the structural schema and the CEL rules of the
//! generated CRDs against the tables in `tests/cases` and the sample manifests.

mod cases;
mod harness;
mod samples;
mod structural;
mod table;
