//! The form of the tables in `tests/cases`. Shared with the suite that asks a real API server.

use serde::Deserialize;
use serde_json::Value;

/// The tables by file name.
pub(crate) const FILES: [(&str, &str); 5] = [
    ("stack.yaml", include_str!("../cases/stack.yaml")),
    ("stack-updates.yaml", include_str!("../cases/stack-updates.yaml")),
    ("backup.yaml", include_str!("../cases/backup.yaml")),
    ("restore.yaml", include_str!("../cases/restore.yaml")),
    ("featureflag.yaml", include_str!("../cases/featureflag.yaml")),
];

/// Cases of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// A complete object that is accepted.
    pub(crate) base: Value,
    pub(crate) cases: Vec<Case>,
}

/// A variation of the base.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Merged into the base's spec.
    #[serde(default)]
    spec: Value,
    /// Merged into the base's metadata.
    #[serde(default)]
    metadata: Value,
    /// Merged into the base's spec: what the object was before. Absent: it is created.
    old: Option<Value>,
    /// Part of what the user reads. Absent: it is accepted.
    pub(crate) refused: Option<String>,
}

impl Table {
    /// The table of a file.
    pub(crate) fn of(file: &str) -> Self {
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).expect("a table of this name");
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The object of a case.
    pub(crate) fn object(&self, case: &Case) -> Value {
        with(&with(&self.base, "spec", &case.spec), "metadata", &case.metadata)
    }

    /// What the object of a case was before.
    pub(crate) fn old(&self, case: &Case) -> Option<Value> {
        case.old.as_ref().map(|old| with(&self.base, "spec", old))
    }
}

impl Case {
    /// Whether this is the wanted answer.
    pub(crate) fn fits(&self, said: &[String]) -> bool {
        match &self.refused {
            None => said.is_empty(),
            Some(sentence) => said.iter().any(|line| line.contains(sentence)),
        }
    }
}

fn with(base: &Value, part: &str, patch: &Value) -> Value {
    let mut object = base.clone();
    if !patch.is_null() {
        merge(&mut object[part], patch);
    }
    object
}

/// RFC 7386: null removes, objects are merged, everything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().expect("made above").remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}
