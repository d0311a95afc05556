//! Components that a revision doesn't change keep the template that they run, and with it their pods: a new
//! dashboard restarts no worker.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec};

use super::revision::{self, Stored};
use crate::stack::build::application::{Rendering, copy_name, holds_out};

/// Templates of the new revision; where a component would be made as `current` stored it, and the values from
/// Secrets are the same too, that one. `digests` are of the new revision's values; those of `current` can only
/// be compared where the same key made them.
#[must_use]
pub fn templates(
    rendering: &Rendering<'_>,
    digests: Option<&BTreeMap<String, String>>,
    named_by: Option<&String>,
    current: Option<&Stored>,
) -> BTreeMap<String, PodTemplateSpec> {
    let mut templates = rendering.templates();
    let Some(current) = current else { return templates };
    let before = current.digests.as_ref().filter(|_| current.named_by.as_ref() == named_by);
    for (component, old) in &current.templates {
        let Some(introduced) = old.metadata.as_ref().and_then(revision::label) else { continue };
        // That of a first install stays without.
        let again = Rendering { revision: introduced, holds_out: holds_out(old), ..*rendering }.templates();
        let copy = copy_name(&rendering.stack.name, introduced);
        let same = |key: &String| {
            let (before, now) = (before.and_then(|all| all.get(key)), digests.and_then(|all| all.get(key)));
            before.is_some() && before == now
        };
        if again.get(component) == Some(old) && keys(old, &copy).all(same) {
            templates.insert(component.clone(), old.clone());
        }
    }
    templates
}

/// Revisions of the stack whose copies of Secrets the stored templates refer to.
pub fn referred<'a>(stack: &str, stored: &'a Stored) -> impl Iterator<Item = &'a str> {
    stored.templates.values().filter_map(move |template| {
        let introduced = template.metadata.as_ref().and_then(revision::label)?;
        keys(template, &copy_name(stack, introduced)).next().map(|_| introduced)
    })
}

/// Keys of the Secret `copy` that the containers of a template read.
fn keys<'a>(template: &'a PodTemplateSpec, copy: &str) -> impl Iterator<Item = &'a String> {
    let spec = template.spec.iter();
    let containers = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let variables = containers.flat_map(|container| container.env.iter().flatten());
    let reference = |variable: &'a EnvVar| variable.value_from.as_ref()?.secret_key_ref.as_ref();
    variables.filter_map(reference).filter(move |reference| reference.name == copy).map(|reference| &reference.key)
}
