//! Does a live object already hold every field of an intent?
//!
//! Needed after a restart, when no memory says what was applied last: a read and this comparison
//! replace a write. Fields that others own or that the API server defaulted are not looked at.

use serde_json::Value;

/// Keys by which the API server merges lists of maps; the first one that every item has is used.
const MERGE_KEYS: [&str; 6] = ["name", "mountPath", "containerPort", "port", "ip", "uid"];

/// Maps whose values are quantities, which the API server rewrites (`1000m` becomes `1`).
const QUANTITY_MAPS: [&str; 2] = ["limits", "requests"];

/// Maps whose keys are free: there an empty text is a value, which the API server keeps.
const FREE_MAPS: [&str; 5] = ["data", "labels", "annotations", "matchLabels", "nodeSelector"];

/// Fields that have one owner as a whole: one peer, port or label more is a difference, too.
const ATOMIC: [&str; 10] = [
    "ingress",
    "egress",
    "podSelector",
    "selector",
    "nodeSelector",
    "routes",
    "entryPoints",
    "rules",
    "tls",
    "sourceRange",
];

/// What the fields on the way down say of a value.
#[derive(Clone, Copy, Default)]
struct Place {
    quantities: bool,
    free_map: bool,
    atomic: bool,
}

impl Place {
    fn under(self, key: &str) -> Self {
        Self {
            quantities: self.quantities || QUANTITY_MAPS.contains(&key) || key == "sizeLimit",
            free_map: FREE_MAPS.contains(&key),
            atomic: self.atomic || ATOMIC.contains(&key),
        }
    }

    /// Of an item in a list.
    fn item(self) -> Self {
        Self { quantities: false, free_map: false, ..self }
    }
}

/// True when `live` has every field of `intent` with an equal value.
#[must_use]
pub fn covers(live: &Value, intent: &Value) -> bool {
    covers_at(live, intent, Place::default())
}

fn covers_at(live: &Value, intent: &Value, place: Place) -> bool {
    match (live, intent) {
        (Value::Object(live), Value::Object(intent)) => {
            let ours = intent.iter().all(|(key, wanted)| match live.get(key) {
                Some(found) => covers_at(found, wanted, place.under(key)),
                None => is_dropped(wanted, place),
            });
            ours && (!place.atomic
                || live.iter().all(|(key, found)| intent.contains_key(key) || is_dropped(found, place)))
        }
        (Value::Array(live), Value::Array(intent)) => list_covers(live, intent, place.item()),
        (Value::String(live), Value::String(intent)) if place.quantities => {
            live == intent || (quantity(live).is_some() && quantity(live) == quantity(intent))
        }
        (live, intent) => live == intent,
    }
}

fn list_covers(live: &[Value], intent: &[Value], place: Place) -> bool {
    let has_key = |key: &&&str| !intent.is_empty() && intent.iter().chain(live).all(|item| item.get(**key).is_some());
    match MERGE_KEYS.iter().find(has_key).filter(|_| !place.atomic) {
        Some(key) => intent
            .iter()
            .all(|wanted| live.iter().any(|found| found[*key] == wanted[*key] && covers_at(found, wanted, place))),
        None => {
            live.len() == intent.len() && live.iter().zip(intent).all(|(found, wanted)| covers_at(found, wanted, place))
        }
    }
}

/// The API server drops nulls, empty texts, lists and maps that a typed object may still carry.
fn is_dropped(value: &Value, place: Place) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !place.free_map,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// A quantity in thousandths, enough to compare what users write for CPU, memory and storage.
#[must_use]
pub fn quantity(text: &str) -> Option<i128> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let scale: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = i32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some(value * scale / 10_i128.pow(digits.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::defaults_of_the_server(json!({"spec": {"replicas": 1, "x": 2}}), json!({"spec": {"replicas": 1}}), true)]
    #[case::changed_value(json!({"spec": {"replicas": 2}}), json!({"spec": {"replicas": 1}}), false)]
    #[case::missing_value(json!({"spec": {}}), json!({"spec": {"replicas": 1}}), false)]
    #[case::empty_map_dropped(json!({}), json!({"labels": {}}), true)]
    #[case::quantity_rewritten(json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "1000m"}}), true)]
    #[case::quantity_fraction(json!({"limits": {"cpu": "500m"}}), json!({"limits": {"cpu": "0.5"}}), true)]
    #[case::quantity_changed(json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "1G"}}), false)]
    #[case::data_is_no_quantity(json!({"data": {"cpu": "1"}}), json!({"data": {"cpu": "1000m"}}), false)]
    #[case::other_owners_item(
        json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
        json!({"env": [{"name": "A", "value": "1"}]}), true)]
    #[case::item_changed(json!({"env": [{"name": "A", "value": "2"}]}), json!({"env": [{"name": "A", "value": "1"}]}), false)]
    #[case::item_gone(json!({"env": []}), json!({"env": [{"name": "A", "value": "1"}]}), false)]
    #[case::atomic_list_longer(json!({"args": ["a", "b"]}), json!({"args": ["a"]}), false)]
    #[case::atomic_list_order(json!({"args": ["b", "a"]}), json!({"args": ["a", "b"]}), false)]
    #[case::empty_text_dropped(json!({"env": [{"name": "A"}]}), json!({"env": [{"name": "A", "value": ""}]}), true)]
    #[case::empty_toleration(json!({"tolerations": [{"key": "a"}]}), json!({"tolerations": [{"key": "a", "value": ""}]}), true)]
    #[case::empty_value_kept(json!({"data": {"a": "1"}}), json!({"data": {"a": "1", "b": ""}}), false)]
    #[case::empty_label_kept(json!({"labels": {"a": "1"}}), json!({"labels": {"a": "1", "b": ""}}), false)]
    #[case::empty_selector_kept(json!({"nodeSelector": {}}), json!({"nodeSelector": {"disk": ""}}), false)]
    #[case::one_port_more(
        json!({"ingress": [{"ports": [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP"}]}]}),
        json!({"ingress": [{"ports": [{"port": 1, "protocol": "TCP"}]}]}), false)]
    #[case::one_peer_less(
        json!({"egress": [{"ports": [{"port": 1}]}]}), json!({"egress": [{"ports": [{"port": 1}], "to": [{"podSelector": {}}]}]}), false)]
    #[case::one_peer_more(
        json!({"egress": [{"ports": [{"port": 1}], "to": [{"podSelector": {}}]}]}), json!({"egress": [{"ports": [{"port": 1}]}]}), false)]
    #[case::narrower_selector(
        json!({"podSelector": {"matchLabels": {"a": "1", "b": "2"}}}), json!({"podSelector": {"matchLabels": {"a": "1"}}}), false)]
    #[case::selector_of_a_service(json!({"selector": {"a": "1", "b": "2"}}), json!({"selector": {"a": "1"}}), false)]
    #[case::more_of_a_node(json!({"nodeSelector": {"a": "1", "b": "2"}}), json!({"nodeSelector": {"a": "1"}}), false)]
    #[case::same_selector(
        json!({"podSelector": {"matchLabels": {"a": "1"}, "matchExpressions": []}}), json!({"podSelector": {"matchLabels": {"a": "1"}}}), true)]
    fn table(#[case] live: Value, #[case] intent: Value, #[case] expected: bool) {
        assert_eq!(covers(&live, &intent), expected);
    }
}
