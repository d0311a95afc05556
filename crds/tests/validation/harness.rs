//! Asks the generated CRDs about an object.

use crate::structural;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::Validator;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads YAML of this crate's folder.
pub(crate) fn read<T: DeserializeOwned>(path: &str) -> Vec<T> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The schema of a kind.
pub(crate) fn schema(kind: &str) -> Option<Value> {
    odoo_ai_crds::generate::crds().iter().find(|crd| crd.spec.names.kind == kind).map(schema_of)
}

/// The schema of a CRD's only version.
pub(crate) fn schema_of(crd: &CustomResourceDefinition) -> Value {
    let version = crd.spec.versions.first().expect("a CRD has a version");
    serde_json::to_value(version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref())).expect("a schema is JSON")
}

/// What the API server would say against `object`, which replaces `old`. Like there, the rules run only on what the
/// structural schema accepts.
pub(crate) fn refusals(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
    let structural = structural::problems(schema, object);
    if !structural.is_empty() {
        return structural;
    }
    match Validator::new().validate(schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}
