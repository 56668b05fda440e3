//! Differences of two JSON values: paths and values.

use std::collections::BTreeSet;

use serde_json::Value;

/// Difference at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldChange {
    /// `virtual_hosts[reviews:9080].routes[0].route.timeout`
    pub(super) path: String,
    /// Value before; `None`: absent.
    pub(super) before: Option<Value>,
    /// Value after; `None`: absent.
    pub(super) after: Option<Value>,
}

/// Returns the differences in order. List elements are matched by their `name` if all have a unique one, otherwise by index.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => match (names(old), names(new)) {
            (Some(old_names), Some(new_names)) => {
                let at = |names: &[&str], list: &[Value], name: &str| {
                    names.iter().position(|known| *known == name).and_then(|index| list.get(index).cloned())
                };
                for name in old_names.iter().chain(&new_names).collect::<BTreeSet<_>>() {
                    let (old, new) = (at(&old_names, old, name), at(&new_names, new, name));
                    compare(&format!("{path}[{name}]"), old.as_ref(), new.as_ref(), found);
                }
                let kept = |names: &[&str], others: &[&str]| -> Vec<String> {
                    names.iter().filter(|name| others.contains(name)).map(ToString::to_string).collect()
                };
                let (was, is) = (kept(&old_names, &new_names), kept(&new_names, &old_names));
                if was != is {
                    let path = format!("{path} (order)");
                    found.push(FieldChange { path, before: Some(was.into()), after: Some(is.into()) });
                }
            }
            _ => {
                for index in 0..old.len().max(new.len()) {
                    compare(&format!("{path}[{index}]"), old.get(index), new.get(index), found);
                }
            }
        },
        (before, after) => {
            found.push(FieldChange { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

/// Returns the names of all elements, if all have a unique one.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> =
        list.iter().map(|item| item.get("name")?.as_str().filter(|name| !name.is_empty())).collect();
    names.filter(|names| names.iter().collect::<BTreeSet<_>>().len() == names.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_have_paths() {
        let check = |before: Value, after: Value, expected: &[&str]| {
            let text = |value: Option<Value>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
            let found: Vec<String> = changes(&before, &after)
                .into_iter()
                .map(|change| format!("{} {} {}", change.path, text(change.before), text(change.after)))
                .collect();
            assert_eq!(found, expected);
        };
        check(json!({"a": 1}), json!({"a": 1}), &[]);
        check(json!({"a": 1, "b": {"c": 2}}), json!({"b": {"c": 3}, "d": 4}), &["a 1 -", "b.c 2 3", "d - 4"]);
        check(json!({"l": [1, 2]}), json!({"l": [1, 3, 4]}), &["l[1] 2 3", "l[2] - 4"]);
        check(
            json!({"l": [{"name": "a", "v": 1}, {"name": "b"}]}),
            json!({"l": [{"name": "c"}, {"name": "a", "v": 2}]}),
            &["l[a].v 1 2", r#"l[b] {"name":"b"} -"#, r#"l[c] - {"name":"c"}"#],
        );
        check(
            json!([{"name": "a"}, {"name": "b"}]),
            json!([{"name": "b"}, {"name": "a"}]),
            &[r#" (order) ["a","b"] ["b","a"]"#],
        );
        // Names that are not unique are ignored.
        check(json!([{"name": "a"}, {"name": "a"}]), json!([{"name": "a"}]), &[r#"[1] {"name":"a"} -"#]);
        check(json!({"a": 1}), json!([1]), &[r#" {"a":1} [1]"#]);
    }
}
