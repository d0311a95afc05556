//! The objects of an API server in memory, and what it does to them: versions, generations, UIDs,
//! owners of fields, preconditions, and what may not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use crate::fields::{Owners, merge};
use crate::operator::today;

/// Plural of a kind and name of an object; there is one namespace.
pub(crate) type Id = (String, String);

/// A request that is not granted.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A change, as a watch tells it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) id: Id,
    /// The object after it, or before it was deleted.
    pub(crate) object: Arc<Value>,
    pub(crate) deleted: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    object: Arc<Value>,
    owners: Arc<Owners>,
}

/// The store; a copy of it is a moment to come back to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<Id, Kept>,
    /// Changes since the last copy, oldest first.
    pub(crate) log: Vec<Change>,
    version: u64,
    uids: u64,
}

/// Kinds without a generation.
const UNCOUNTED: [&str; 7] =
    ["secrets", "configmaps", "services", "serviceaccounts", "persistentvolumeclaims", "pods", "events"];

impl Store {
    /// A copy to come back to.
    pub(crate) fn moment(&self) -> Self {
        Self { objects: self.objects.clone(), log: Vec::new(), version: self.version, uids: self.uids }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<&Value> {
        self.objects.get(&id(plural, name)).map(|kept| kept.object.as_ref())
    }

    /// Objects of a kind, by name.
    pub(crate) fn all<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.everything().filter(move |(id, _)| id.0 == plural).map(|(id, object)| (id.1.as_str(), object))
    }

    pub(crate) fn everything(&self) -> impl Iterator<Item = (&Id, &Value)> {
        self.objects.iter().map(|(id, kept)| (id, kept.object.as_ref()))
    }

    /// POST.
    pub(crate) fn create(&mut self, plural: &str, manager: &str, mut object: Value) -> Result<Arc<Value>, Refusal> {
        if let (None, Some(prefix)) = (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str())
        {
            object["metadata"]["name"] = json!(format!("{prefix}{:05x}", self.version));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.get(plural, &name).is_some() {
            return Err(refuse(409, "AlreadyExists", format!("{plural} \"{name}\" already exists")));
        }
        let mut owners = Owners::default();
        owners.updated(manager, &json!({}), &object);
        Ok(self.keep(plural, &name, object, owners))
    }

    /// PATCH of the type `application/apply-patch+yaml`.
    pub(crate) fn apply(
        &mut self,
        plural: &str,
        name: &str,
        manager: &str,
        applied: &Value,
    ) -> Result<Arc<Value>, Refusal> {
        let uid = &applied["metadata"]["uid"];
        let Some(Kept { object, owners }) = self.objects.get(&id(plural, name)).cloned() else {
            if !uid.is_null() {
                return Err(refuse(409, "Conflict", format!("{plural} \"{name}\" with UID {uid} does not exist")));
            }
            let (mut object, mut owners) = (json!({}), Owners::default());
            owners.apply(manager, &mut object, applied);
            return Ok(self.keep(plural, name, object, owners));
        };
        expect(plural, name, &object, &applied["metadata"])?;
        let (mut after, mut owners) = (object.as_ref().clone(), Arc::unwrap_or_clone(owners));
        owners.apply(manager, &mut after, applied);
        self.replace(plural, name, after, owners)
    }

    /// PATCH of the type `application/merge-patch+json`.
    pub(crate) fn merge(
        &mut self,
        plural: &str,
        name: &str,
        manager: &str,
        patch: &Value,
    ) -> Result<Arc<Value>, Refusal> {
        let Some(Kept { object, owners }) = self.objects.get(&id(plural, name)).cloned() else {
            return Err(missing(plural, name));
        };
        expect(plural, name, &object, &patch["metadata"])?;
        let (mut after, mut owners) = (object.as_ref().clone(), Arc::unwrap_or_clone(owners));
        merge(&mut after, patch);
        owners.updated(manager, &object, &after);
        self.replace(plural, name, after, owners)
    }

    /// PUT of the subresource `status`, which needs the version that was read.
    pub(crate) fn put_status(&mut self, plural: &str, name: &str, object: &Value) -> Result<Arc<Value>, Refusal> {
        let Some(old) = self.get(plural, name) else { return Err(missing(plural, name)) };
        if object["metadata"]["resourceVersion"].is_null() {
            return Err(refuse(422, "Invalid", "metadata.resourceVersion: must be specified for an update".to_owned()));
        }
        expect(plural, name, old, &object["metadata"])?;
        Ok(self.set_status(plural, name, object["status"].clone()))
    }

    /// What a controller of the cluster itself does; the object must exist.
    pub(crate) fn set_status(&mut self, plural: &str, name: &str, status: Value) -> Arc<Value> {
        let id = id(plural, name);
        let kept = self.objects.get(&id).expect("an object that has a status");
        let mut object = kept.object.as_ref().clone();
        object["status"] = status;
        if object == *kept.object {
            return Arc::clone(&kept.object);
        }
        let owners = Arc::clone(&kept.owners);
        self.put(id, object, owners)
    }

    /// A person edits an object; the generation moves with its spec.
    pub(crate) fn edit(&mut self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let Kept { object, owners } = self.objects.get(&id(plural, name)).cloned().expect("an object to edit");
        let (mut after, mut owners) = (object.as_ref().clone(), Arc::unwrap_or_clone(owners));
        change(&mut after);
        owners.updated("somebody", &object, &after);
        self.replace(plural, name, after, owners).expect("an edit that is allowed");
    }

    /// DELETE; everything that only the object owned goes with it.
    pub(crate) fn delete(&mut self, plural: &str, name: &str, preconditions: &Value) -> Result<(), Refusal> {
        let Some(old) = self.get(plural, name) else { return Err(missing(plural, name)) };
        expect(plural, name, old, preconditions)?;
        if is_held(old) {
            let Kept { object, owners } = self.objects[&id(plural, name)].clone();
            let mut going = object.as_ref().clone();
            if going["metadata"]["deletionTimestamp"].is_null() {
                going["metadata"]["deletionTimestamp"] = json!(today().to_string());
                self.put(id(plural, name), going, owners);
            }
            return Ok(());
        }
        self.remove(&id(plural, name));
        Ok(())
    }

    /// It goes, and everything that only it owned.
    fn remove(&mut self, id: &Id) {
        self.forget(id);
        loop {
            let uids: Vec<_> = self.objects.values().map(|kept| kept.object["metadata"]["uid"].clone()).collect();
            let orphan = self.objects.iter().find(|(_, kept)| {
                let owners = kept.object["metadata"]["ownerReferences"].as_array().filter(|owners| !owners.is_empty());
                owners.is_some_and(|owners| owners.iter().all(|owner| !uids.contains(&owner["uid"])))
            });
            let Some((orphan, _)) = orphan else { return };
            let orphan = orphan.clone();
            self.forget(&orphan);
        }
    }

    fn forget(&mut self, id: &Id) {
        if let Some(Kept { object, .. }) = self.objects.remove(id) {
            self.version += 1;
            let mut last = object.as_ref().clone();
            last["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.log.push(Change { version: self.version, id: id.clone(), object: Arc::new(last), deleted: true });
        }
    }

    /// A new object.
    fn keep(&mut self, plural: &str, name: &str, mut object: Value, owners: Owners) -> Arc<Value> {
        self.uids += 1;
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.uids));
        // One after the other.
        let age = SignedDuration::from_secs(i64::try_from(self.uids).expect("few"));
        metadata["creationTimestamp"] = json!((today() + age).to_string());
        if !UNCOUNTED.contains(&plural) {
            metadata["generation"] = json!(1);
        }
        if plural != "pods" {
            object.as_object_mut().expect("an object").remove("status");
        }
        self.put(id(plural, name), object, Arc::new(owners))
    }

    fn replace(&mut self, plural: &str, name: &str, mut after: Value, owners: Owners) -> Result<Arc<Value>, Refusal> {
        let before = Arc::clone(&self.objects[&id(plural, name)].object);
        for ours in ["uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "name"] {
            after["metadata"][ours] = before["metadata"][ours].clone();
        }
        for absent in ["generation", "deletionTimestamp"] {
            if after["metadata"][absent].is_null() {
                after["metadata"].as_object_mut().expect("metadata").remove(absent);
            }
        }
        match before.get("status") {
            Some(status) => after["status"] = status.clone(),
            None => drop(after.as_object_mut().expect("an object").remove("status")),
        }
        stays(plural, name, &before, &after)?;
        if after == *before {
            self.objects.get_mut(&id(plural, name)).expect("it exists").owners = Arc::new(owners);
            return Ok(before);
        }
        if !UNCOUNTED.contains(&plural) && after["spec"] != before["spec"] {
            after["metadata"]["generation"] = json!(before["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        let after = self.put(id(plural, name), after, Arc::new(owners));
        if !after["metadata"]["deletionTimestamp"].is_null() && !is_held(&after) {
            self.remove(&id(plural, name));
        }
        Ok(after)
    }

    fn put(&mut self, id: Id, mut object: Value, owners: Arc<Owners>) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        self.log.push(Change { version: self.version, id: id.clone(), object: Arc::clone(&object), deleted: false });
        self.objects.insert(id, Kept { object: Arc::clone(&object), owners });
        object
    }
}

/// Somebody wants to do something before it goes.
fn is_held(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|names| !names.is_empty())
}

fn id(plural: &str, name: &str) -> Id {
    (plural.to_owned(), name.to_owned())
}

fn refuse(code: u16, reason: &'static str, message: String) -> Refusal {
    Refusal { code, reason, message }
}

fn missing(plural: &str, name: &str) -> Refusal {
    refuse(404, "NotFound", format!("{plural} \"{name}\" not found"))
}

/// UID and version, where the request names them.
fn expect(plural: &str, name: &str, live: &Value, wanted: &Value) -> Result<(), Refusal> {
    for field in ["uid", "resourceVersion"] {
        if !wanted[field].is_null() && wanted[field] != live["metadata"][field] {
            let (wanted, found) = (&wanted[field], &live["metadata"][field]);
            let message = format!("{plural} \"{name}\": {field} is {found}, the request says {wanted}");
            return Err(refuse(409, "Conflict", message));
        }
    }
    Ok(())
}

/// What the API server does not let anybody change.
fn stays(plural: &str, name: &str, before: &Value, after: &Value) -> Result<(), Refusal> {
    let mut fixed: Vec<&str> = match plural {
        "secrets" => vec!["/type"],
        "deployments" => vec!["/spec/selector"],
        "statefulsets" => {
            vec!["/spec/selector", "/spec/serviceName", "/spec/podManagementPolicy", "/spec/volumeClaimTemplates"]
        }
        "jobs" => vec!["/spec/selector", "/spec/template", "/spec/completions"],
        "persistentvolumeclaims" => vec!["/spec/accessModes", "/spec/storageClassName", "/spec/volumeMode"],
        "controllerrevisions" => vec!["/data"],
        _ => Vec::new(),
    };
    if ["secrets", "configmaps"].contains(&plural) && before["immutable"] == true {
        fixed.extend(["/data", "/immutable"]);
    }
    match fixed.into_iter().find(|field| before.pointer(field) != after.pointer(field)) {
        Some(field) => Err(refuse(422, "Invalid", format!("{plural} \"{name}\": {field}: field is immutable"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        let mut store = Store::default();
        let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}});
        store.create("deployments", "us", object).expect("a new object");
        store
    }

    #[test]
    fn a_generation_moves_with_the_spec_and_a_version_with_everything() {
        let mut store = store();
        let of = |store: &Store| {
            let metadata = store.get("deployments", "a").expect("it")["metadata"].clone();
            (metadata["generation"].clone(), metadata["resourceVersion"].clone())
        };
        let created = of(&store);
        store.set_status("deployments", "a", json!({"replicas": 1}));
        let ready = of(&store);
        assert_eq!(created.0, ready.0);
        assert_ne!(created.1, ready.1);
        store.merge("deployments", "a", "us", &json!({"spec": {"replicas": 1}})).expect("nothing new");
        assert_eq!(of(&store), ready, "what changes nothing is no change");
        store.merge("deployments", "a", "us", &json!({"spec": {"replicas": 2}})).expect("a change");
        assert_eq!(of(&store).0, 2);
    }

    #[test]
    fn preconditions_are_kept() {
        let mut store = store();
        let again = store.create("deployments", "us", json!({"metadata": {"name": "a"}}));
        assert_eq!(again.expect_err("a name is taken").reason, "AlreadyExists");
        let old = store.get("deployments", "a").cloned().expect("it");
        store.set_status("deployments", "a", json!({"replicas": 1}));
        assert_eq!(store.put_status("deployments", "a", &old).expect_err("an old version").code, 409);
        assert_eq!(store.delete("deployments", "a", &json!({"uid": "another"})).expect_err("another UID").code, 409);
        store.delete("deployments", "a", &json!({"uid": old["metadata"]["uid"]})).expect("its own UID");
        let uid = store.apply("deployments", "a", "us", &json!({"metadata": {"uid": "gone"}}));
        assert_eq!(uid.expect_err("a UID that doesn't exist").code, 409);
    }

    #[test]
    fn what_is_held_goes_with_its_last_finalizer() {
        let mut store = store();
        let hold = |names: Value| json!({"metadata": {"finalizers": names}});
        store.merge("deployments", "a", "us", &hold(json!(["ours", "theirs"]))).expect("a change");
        store.delete("deployments", "a", &json!({})).expect("it is marked");
        let marked = store.get("deployments", "a").cloned().expect("it is held");
        assert!(marked["metadata"]["deletionTimestamp"].is_string());
        store.delete("deployments", "a", &json!({})).expect("again");
        assert_eq!(store.get("deployments", "a"), Some(&marked));
        store.merge("deployments", "a", "us", &hold(json!(["theirs"]))).expect("a change");
        assert!(store.get("deployments", "a").is_some());
        store.merge("deployments", "a", "us", &hold(json!([]))).expect("a change");
        assert_eq!(store.everything().count(), 0);
    }

    #[test]
    fn an_immutable_secret_stays() {
        let mut store = Store::default();
        let secret = json!({"metadata": {"name": "s"}, "immutable": true, "data": {"a": "eA=="}});
        store.apply("secrets", "s", "us", &secret).expect("a new Secret");
        let other = json!({"metadata": {"name": "s"}, "immutable": true, "data": {"a": "eQ=="}});
        assert_eq!(store.apply("secrets", "s", "us", &other).expect_err("immutable").code, 422);
    }

    #[test]
    fn what_nobody_owns_any_more_goes() {
        let mut store = store();
        let uid = store.get("deployments", "a").expect("it")["metadata"]["uid"].clone();
        let pod = json!({"metadata": {"name": "p", "ownerReferences": [{"uid": uid}]}});
        store.create("pods", "cluster", pod).expect("a pod");
        store.delete("deployments", "a", &json!({})).expect("it goes");
        assert_eq!(store.everything().count(), 0);
    }
}
