//! Sizes that Kubernetes and Linux set: what would not fit is named before anything is done.

use odoo_ai_crds::conditions::reasons;

use super::build::application::{Rendering, Schema};
use super::model::Stack;
use super::validate::Problem;
use crate::rollout::inputs::{Content, Inputs};
use crate::rollout::revision::Stored;

/// Bytes of one object. etcd refuses requests above 1.5 MiB; the rest is for what the API server adds.
const OBJECT: usize = 1_000_000;
/// Bytes of one variable, name and value, that Linux passes to a process (`MAX_ARG_STRLEN`).
const VARIABLE: usize = 128 * 1024 - 2;

/// Refuses inputs whose copies or templates could not be stored, or not be given to a process.
///
/// # Errors
/// A [`Problem`] with the largest part and what to do.
pub fn check(stack: &Stack, revision: &str, inputs: &Inputs) -> Result<(), Problem> {
    let size = |variable: &crate::rollout::inputs::Variable| match &variable.value {
        Content::Literal(value) | Content::Secret(value) => variable.name.len() + value.len(),
    };
    let largest = inputs.variables.iter().max_by_key(|variable| size(variable));
    if let Some(variable) = largest.filter(|variable| size(variable) > VARIABLE) {
        return Err(refused(format!(
            "variable {} has {} bytes and Linux passes at most {VARIABLE} to a process: shorten it",
            variable.name,
            size(variable)
        )));
    }
    let named = largest.map(|it| format!("{} with {} bytes", it.name, size(it))).unwrap_or_default();
    let copies: usize = inputs.copies().iter().map(|(key, value)| key.len() + value.len()).sum();
    if copies > OBJECT {
        return Err(refused(format!(
            "the values that the application gets from Secrets and envFrom have {copies} bytes together and a revision keeps at most {OBJECT}; the largest variable is {named}: leave out what the application doesn't read"
        )));
    }
    let schema = Schema::default();
    let rendering = Rendering { stack, revision, inputs, schema: &schema, holds_out: true };
    let stored = Stored::new(inputs.stored(), rendering.templates());
    let templates = serde_json::to_vec(&stored).map_or(0, |json| json.len());
    if templates > OBJECT {
        return Err(refused(format!(
            "env and envFrom make pod templates of {templates} bytes together and a revision keeps at most {OBJECT} ({} variables, each in up to three components; the largest is {named}): leave out what the application doesn't read, or set it for one component only",
            inputs.variables.len()
        )));
    }
    Ok(())
}

fn refused(message: String) -> Problem {
    Problem::refused(reasons::INVALID_SPEC, message)
}
