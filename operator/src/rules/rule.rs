//! One automation rule, as the application has it. Plain.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the application sets itself.
const NOT_OURS: [&str; 3] = ["id", "created_at", "updated_at"];

/// One rule: what names it and whether it acts, and all the others as they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its id.
    pub id: i64,
    /// Its name, for people.
    pub name: String,
    /// Its type.
    pub automation_type: String,
    /// Its action.
    pub action_name: String,
    /// Whether it acts.
    pub enabled: bool,
    /// The rest, kept as it is.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Rule {
    /// The body of a PUT that changes nothing. A PUT replaces the whole rule, and an omitted `enabled` switches it on:
    /// always send all of it.
    #[must_use]
    pub fn body(&self) -> Map<String, Value> {
        let mut body = match serde_json::to_value(self) {
            Ok(Value::Object(body)) => body,
            _ => Map::new(),
        };
        body.retain(|field, _| !NOT_OURS.contains(&field.as_str()));
        body
    }

    /// The body of a PUT that changes nothing but `enabled`.
    #[must_use]
    pub fn disabled(&self) -> Map<String, Value> {
        let mut body = self.body();
        body.insert("enabled".to_owned(), Value::Bool(false));
        body
    }
}

/// The two say the same: numbers are compared by value, the order of an object's members says nothing.
#[must_use]
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64().zip(other.as_f64()).is_some_and(|(a, b)| (a - b).abs() < 1e-9)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|found| same(value, found)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn a_put_keeps_everything_but_enabled() {
        let rule: Rule = serde_json::from_value(json!({
            "id": 7, "name": "n", "automation_type": "crm", "action_name": "a", "enabled": true,
            "confidence_threshold": 0.85, "auto_approve": false, "auto_approve_threshold": 0.95,
            "config": {"x": [1]}, "created_at": "2026-01-01T00:00:00", "updated_at": "2026-01-01T00:00:00",
        }))
        .expect("a rule");
        assert_eq!(
            Value::Object(rule.disabled()),
            json!({
                "name": "n", "automation_type": "crm", "action_name": "a", "enabled": false,
                "confidence_threshold": 0.85, "auto_approve": false, "auto_approve_threshold": 0.95,
                "config": {"x": [1]},
            })
        );
    }

    #[rstest]
    #[case(json!(1), json!(1.0), true)]
    #[case(json!(0.85), json!(85.0 / 100.0), true)]
    #[case(json!(0.85), json!(0.86), false)]
    #[case(json!({"a": 1, "b": [2.0]}), json!({"b": [2], "a": 1.0}), true)]
    #[case(json!({"a": 1}), json!({"a": 1, "b": null}), false)]
    #[case(json!([1, 2]), json!([2, 1]), false)]
    #[case(json!("1"), json!(1), false)]
    #[case(json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_993_i64), true)]
    fn values_are_compared_by_what_they_say(#[case] one: Value, #[case] other: Value, #[case] equal: bool) {
        assert_eq!(same(&one, &other), equal);
    }
}
