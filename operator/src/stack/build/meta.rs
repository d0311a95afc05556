//! Names, labels and owners of children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::cluster::intent::controller;
use crate::labels;
use crate::stack::model::Stack;

/// Metadata of a child that the stack owns.
#[must_use]
pub fn owned(stack: &Stack, component: &str, suffix: &str) -> ObjectMeta {
    ObjectMeta { owner_references: Some(vec![stack.owner.clone()]), ..ownerless(stack, component, suffix) }
}

/// Metadata of a child that outlives the stack: volumes, keys, generated Secrets.
#[must_use]
pub fn ownerless(stack: &Stack, component: &str, suffix: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(stack.child(suffix)),
        namespace: Some(stack.namespace.clone()),
        labels: Some(labels::child(&stack.name, component)),
        ..ObjectMeta::default()
    }
}

/// Metadata of a child that another child owns.
#[must_use]
pub fn owned_by(stack: &Stack, component: &str, suffix: &str, owner: OwnerReference) -> ObjectMeta {
    ObjectMeta { owner_references: Some(vec![owner]), ..ownerless(stack, component, suffix) }
}

/// True for a child of this stack, by its labels and by its controller.
#[must_use]
pub fn is_child(stack: &Stack, meta: &ObjectMeta) -> bool {
    is_labelled(stack, meta) && controller(meta).is_some_and(|owner| owner.uid == stack.owner.uid)
}

/// True for what has the stack's label, whoever owns it.
#[must_use]
pub fn is_labelled(stack: &Stack, meta: &ObjectMeta) -> bool {
    meta.labels.as_ref().and_then(|labels| labels.get(labels::STACK)) == Some(&stack.name)
}

/// The immutable selector of a component's pods.
#[must_use]
pub fn selector(stack: &Stack, component: &str) -> LabelSelector {
    LabelSelector { match_labels: Some(labels::selector(&stack.name, component)), ..LabelSelector::default() }
}

/// Labels of a pod, with its revision where it has one.
#[must_use]
pub fn pod_labels(stack: &Stack, component: &str, revision: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = labels::child(&stack.name, component);
    if let Some(revision) = revision {
        labels.insert(labels::REVISION.to_owned(), revision.to_owned());
    }
    labels
}
