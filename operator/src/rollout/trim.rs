//! The limit of history for what is stored: templates of revisions, the copies of their secrets, and
//! templates of the data servers. A plain function says which of them go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::ApiResource;
use odoo_ai_crds::stack::OdooAiStackStatus;

use super::revision::Stored;
use super::{carry, jobs, pods, revision};
use crate::cluster::children::Children;
use crate::cluster::delete::Doomed;
use crate::cluster::intent::controller;
use crate::component::Component;
use crate::labels;
use crate::stack::build::application::copy_name;
use crate::stack::build::meta;
use crate::stack::model::Stack;

/// What is stored beyond the limit. `status` is the one with the trimmed history, `runs` what each
/// component runs; `settled`: each pod of the data servers is of the template that is wanted now.
#[must_use]
pub fn plan<'a>(
    stack: &Stack,
    status: &OdooAiStackStatus,
    runs: impl Iterator<Item = &'a str>,
    settled: bool,
    children: &Children,
    read: &BTreeMap<String, Arc<Stored>>,
) -> Vec<Doomed> {
    let stored = stored(stack, children);
    let kept = kept(stack, status, in_use(status, runs, children), &stored);
    let referred = referred(stack, &kept, &stored, read);
    let unneeded = |it: &Item<'_>| referred.as_ref().is_some_and(|all| !it.is_copy() || !all.contains(it.revision));
    let beyond = stored.into_iter().filter(|it| !kept.contains(it.revision) && unneeded(it));
    let beyond = beyond.map(|it| (it.resource, it.meta));
    let servers = servers(stack, children).filter(|_| settled);
    let mut doomed: Vec<_> = beyond.chain(servers).filter_map(|(resource, meta)| Doomed::new(resource, meta)).collect();
    // Templates before their copies: what is still listed as stored is whole.
    doomed.sort_by(|a, b| a.key.cmp(&b.key));
    doomed
}

/// Templates or copies of an application revision.
struct Item<'a> {
    revision: &'a str,
    resource: ApiResource,
    meta: &'a ObjectMeta,
}

impl Item<'_> {
    fn is_copy(&self) -> bool {
        self.resource.kind == "Secret"
    }
}

/// Revisions whose copies the templates that stay refer to: components that a revision didn't change. `None`
/// where one of them could not be read.
fn referred<'a>(
    stack: &Stack,
    kept: &BTreeSet<String>,
    stored: &[Item<'_>],
    read: &'a BTreeMap<String, Arc<Stored>>,
) -> Option<BTreeSet<&'a str>> {
    let staying = stored.iter().filter(|it| !it.is_copy() && kept.contains(it.revision));
    let templates = staying.map(|it| read.get(&revision::name(&stack.name, it.revision)));
    Some(
        templates
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .flat_map(|stored| carry::referred(&stack.name, stored))
            .collect(),
    )
}

/// By exact names, labels and owners: a generated Secret may belong to the stack, too.
fn stored<'a>(stack: &Stack, children: &'a Children) -> Vec<Item<'a>> {
    let named = |meta: &ObjectMeta, name: String| meta.name.as_ref() == Some(&name);
    let templates: Vec<_> = children
        .of_kind("ControllerRevision")
        .filter(|meta| meta::is_child(stack, meta) && component(meta) == Some(revision::APPLICATION))
        .filter_map(|meta| Some(Item { revision: revision::label(meta)?, resource: revisions(), meta }))
        .filter(|it| named(it.meta, revision::name(&stack.name, it.revision)))
        .collect();
    let owner = |meta: &ObjectMeta| controller(meta).map(|owner| owner.uid.clone());
    let ours = |meta: &ObjectMeta| {
        meta::is_child(stack, meta)
            || meta::is_labelled(stack, meta)
                && owner(meta).is_some_and(|uid| templates.iter().any(|it| it.meta.uid.as_ref() == Some(&uid)))
    };
    let copies: Vec<_> = children
        .of_kind("Secret")
        .filter(|meta| ours(meta))
        .filter_map(|meta| {
            let resource = ApiResource::erase::<Secret>(&());
            Some(Item { revision: revision::label(meta)?, resource, meta })
        })
        .filter(|it| named(it.meta, copy_name(&stack.name, it.revision)))
        .collect();
    templates.into_iter().chain(copies).collect()
}

/// Whatever the limit: what is or was meant to run, runs, or is being prepared for.
fn in_use<'a>(
    status: &OdooAiStackStatus,
    runs: impl Iterator<Item = &'a str>,
    children: &Children,
) -> BTreeSet<String> {
    let meant = [&status.current_revision, &status.update_revision, &status.failed_revision];
    let components = status.components.iter().filter_map(|component| component.revision.clone());
    let workloads = ["Deployment", "StatefulSet"].into_iter().flat_map(|kind| children.of_kind(kind));
    // Pods that terminate may still start a container again.
    let pods = children.pods.values().filter(|pod| !pods::has_ended(pod)).map(|pod| &pod.metadata);
    let jobs = children.jobs.values().filter(|job| !jobs::is_finished(job)).map(|job| &job.metadata);
    let labelled = workloads.chain(pods).chain(jobs).filter_map(revision::label).map(str::to_owned);
    meant.into_iter().flatten().cloned().chain(components).chain(runs.map(str::to_owned)).chain(labelled).collect()
}

/// What history shows, what is in use and, where history is shorter than the limit (a status can be
/// lost), the newest of the rest.
fn kept(stack: &Stack, status: &OdooAiStackStatus, in_use: BTreeSet<String>, stored: &[Item<'_>]) -> BTreeSet<String> {
    let limit = usize::try_from(stack.rollout.history_limit).unwrap_or(1);
    let room = limit.saturating_sub(status.history.len());
    let mut kept = in_use;
    kept.extend(status.history.iter().map(|entry| entry.revision.clone()));
    let mut rest: BTreeMap<&str, Option<&Time>> = BTreeMap::new();
    for item in stored.iter().filter(|item| !kept.contains(item.revision)) {
        let newest = rest.entry(item.revision).or_default();
        *newest = (*newest).max(item.meta.creation_timestamp.as_ref());
    }
    let mut rest: Vec<_> = rest.into_iter().map(|(revision, made)| (made, revision)).collect();
    rest.sort_unstable_by(|a, b| b.cmp(a));
    kept.extend(rest.into_iter().take(room).map(|(_, revision)| revision.to_owned()));
    kept
}

/// Templates of the data servers that are not wanted now.
fn servers<'a>(stack: &Stack, children: &'a Children) -> impl Iterator<Item = (ApiResource, &'a ObjectMeta)> {
    let database = stack.database.managed().map(|server| (Component::Database, &server.inputs));
    let redis = stack.redis.managed().map(|server| (Component::Redis, &server.inputs));
    let name = |(component, inputs)| stack.child(&revision::suffix_of_server(component, inputs));
    let wanted: Vec<_> = database.into_iter().chain(redis).map(name).collect();
    let of_stack = |meta: &&ObjectMeta| meta::is_child(stack, meta) && component(meta) == Some(revision::SERVER);
    let found: Vec<_> = children.of_kind("ControllerRevision").filter(of_stack).collect();
    let unwanted = found.into_iter().filter(move |meta| meta.name.as_ref().is_some_and(|name| !wanted.contains(name)));
    unwanted.map(|meta| (revisions(), meta))
}

fn revisions() -> ApiResource {
    ApiResource::erase::<ControllerRevision>(&())
}

fn component(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(labels::COMPONENT).map(String::as_str)
}
