//! YAML as JSON values, with limits: what a pod's annotation can hold must not blow up its agent.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

/// Deeper than any configuration of ours by far, and shallow enough for recursive readers.
const MAX_DEPTH: usize = 64;

/// Reads one document; an empty one is null. The error is one line with the position.
pub(super) fn read(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_are_read() {
        for (text, value) in [
            ("", json!(null)),
            ("\n  \n", json!(null)),
            ("# nothing\n", json!(null)),
            ("a: 1\nb: [x, true, 1.5, \"2\"]\n", json!({"a": 1, "b": ["x", true, 1.5, "2"]})),
            ("{\"a\": {\"b\": null}}", json!({"a": {"b": null}})),
            ("address: 10.1.1.1:15010", json!({"address": "10.1.1.1:15010"})),
        ] {
            assert_eq!(read(text), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn what_has_two_meanings_or_none_is_refused() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        for text in ["a: 1\na: 2", "a: [1", "a: b: c", &deep] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
