//! Differences between two JSON values.

use serde_json::Value;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Field names separated by dots; `[number]` for a list element that differs, `[]` for an element that only one side has.
    pub(crate) path: String,
    /// Istio's value.
    pub(crate) golden: Option<Value>,
    /// Our value.
    pub(crate) ours: Option<Value>,
}

/// Returns all differences in the order of the fields.
pub(crate) fn differences(golden: &Value, ours: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    compare(String::new(), Some(golden), Some(ours), &mut all);
    all
}

fn compare(path: String, golden: Option<&Value>, ours: Option<&Value>, all: &mut Vec<Difference>) {
    match (golden, ours) {
        (Some(golden), Some(ours)) if golden == ours => {}
        (Some(Value::Object(golden)), Some(Value::Object(ours))) => {
            let only_ours = ours.keys().filter(|name| !golden.contains_key(*name));
            for name in golden.keys().chain(only_ours) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(path, golden.get(name), ours.get(name), all);
            }
        }
        (Some(Value::Array(golden)), Some(Value::Array(ours))) => elements(&path, golden, ours, all),
        (golden, ours) => {
            all.push(Difference { path, golden: golden.cloned(), ours: ours.cloned() });
        }
    }
}

/// Compares lists of equal length element by element; otherwise reports the elements between the common prefix and suffix.
fn elements(path: &str, golden: &[Value], ours: &[Value], all: &mut Vec<Difference>) {
    if golden.len() == ours.len() {
        for (number, (golden, ours)) in golden.iter().zip(ours).enumerate() {
            compare(format!("{path}[{number}]"), Some(golden), Some(ours), all);
        }
        return;
    }
    let begin = golden.iter().zip(ours).take_while(|(golden, ours)| golden == ours).count();
    let (golden, ours) = (golden.get(begin..).unwrap_or_default(), ours.get(begin..).unwrap_or_default());
    let end = golden.iter().rev().zip(ours.iter().rev()).take_while(|(golden, ours)| golden == ours).count();
    let path = format!("{path}[]");
    for golden in golden.iter().take(golden.len() - end) {
        compare(path.clone(), Some(golden), None, all);
    }
    for ours in ours.iter().take(ours.len() - end) {
        compare(path.clone(), None, Some(ours), all);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(golden: &Value, ours: &Value, expected: &[(&str, Value, Value)]) {
        let side = |value: Option<Value>| value.unwrap_or(Value::Null);
        let found: Vec<_> = differences(golden, ours)
            .into_iter()
            .map(|Difference { path, golden, ours }| (path, side(golden), side(ours)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(path, golden, ours)| ((*path).to_owned(), golden.clone(), ours.clone()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn equal_values_have_no_differences() {
        check(&json!({"a": [1, {"b": "c"}], "d": {}}), &json!({"d": {}, "a": [1, {"b": "c"}]}), &[]);
    }

    #[test]
    fn a_difference_has_path_and_both_values() {
        check(
            &json!({"a": [1, {"b": "c"}], "only": 1}),
            &json!({"a": [1, {"b": "d"}], "ours": 2}),
            &[
                ("a[1].b", json!("c"), json!("d")),
                ("only", json!(1), Value::Null),
                ("ours", Value::Null, json!(2)),
            ],
        );
        check(&json!({"a": 1}), &json!([1]), &[("", json!({"a": 1}), json!([1]))]);
    }

    #[test]
    fn list_differences_are_the_added_and_removed_elements() {
        check(&json!(["a", "c"]), &json!(["a", "b", "c"]), &[("[]", Value::Null, json!("b"))]);
        check(&json!(["a", "a"]), &json!(["a"]), &[("[]", json!("a"), Value::Null)]);
        check(&json!([]), &json!([1]), &[("[]", Value::Null, json!(1))]);
        check(
            &json!(["a", "x", "c"]),
            &json!(["a", "c", "d", "c"]),
            &[
                ("[]", json!("x"), Value::Null),
                ("[]", Value::Null, json!("c")),
                ("[]", Value::Null, json!("d")),
            ],
        );
    }

    #[test]
    fn the_order_of_list_elements_is_significant() {
        check(
            &json!(["a", "b"]),
            &json!(["b", "a"]),
            &[("[0]", json!("a"), json!("b")), ("[1]", json!("b"), json!("a"))],
        );
    }
}
