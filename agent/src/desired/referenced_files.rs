//! Files that Envoy reads once, at its start, because its bootstrap refers to them by `filename`. A change of one takes effect
//! with a new Envoy only.
//!
//! Envoy 1.40 itself watches a file with a `watched_directory`, unless it belongs to TLS: certificates that do not come over SDS
//! are read once in any case, as an experiment has shown. Files that secrets from SDS refer to are not in the bootstrap, and are
//! watched by Envoy.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Fields of TLS contexts with files that Envoy never watches.
const TLS: [&str; 8] =
    ["certificatechain", "crl", "keys", "ocspstaple", "password", "pkcs12", "privatekey", "trustedca"];

/// Returns the paths in a bootstrap and its overlay, as written there. Text that is not JSON contains none.
pub(super) fn paths(bootstrap: &str, overlay: Option<&str>) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for text in [Some(bootstrap), overlay].into_iter().flatten() {
        collect("", &serde_json::from_str(text).unwrap_or_default(), &mut paths);
    }
    paths
}

/// The depth of the recursion is limited by the parser.
fn collect(field: &str, value: &Value, paths: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(field, value, paths)),
        Value::Object(fields) => {
            let file = fields.get("filename").and_then(Value::as_str).filter(|file| !file.is_empty());
            paths.extend(file.filter(|_| !is_watched(field, fields)).map(ToOwned::to_owned));
            fields.iter().for_each(|(field, value)| collect(field, value, paths));
        }
        _ => {}
    }
}

fn is_watched(field: &str, source: &Map<String, Value>) -> bool {
    source.keys().any(|key| normalized(key) == "watcheddirectory")
        && !TLS.contains(&normalized(field).as_str())
}

/// Returns the same text for `certificate_chain` and `certificateChain`.
fn normalized(field: &str) -> String {
    field.replace('_', "").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_that_envoy_watches_itself_are_left_out() {
        let directory = json!({"path": "/certs"});
        for (bootstrap, expected) in [
            (json!({"private_key": {"filename": "k"}}), &["k"][..]),
            (
                json!({"tls_certificates": [{"certificate_chain": {"filename": "c"}, "watched_directory": directory}]}),
                &["c"],
            ),
            (json!({"trusted_ca": {"filename": "r", "watched_directory": directory}}), &["r"]),
            (json!({"trustedCa": {"filename": "r", "watchedDirectory": directory}}), &["r"]),
            (
                json!({"session_ticket_keys": {"keys": [{"filename": "t", "watched_directory": directory}]}}),
                &["t"],
            ),
            (json!({"body": {"filename": "b", "watched_directory": directory}}), &[]),
            (json!({"body": {"filename": "b", "watchedDirectory": directory}}), &[]),
            (json!({"body": {"filename": "b"}}), &["b"]),
            (json!({"code": {"local": {"filename": "f.wasm"}}}), &["f.wasm"]),
            (json!({"sds_config": {"path_config_source": {"path": "/sds.yaml"}}}), &[]),
            (json!({"admin": {"access_log_path": "/dev/null"}, "filename": ""}), &[]),
            (json!({"filename": {"no": "text"}}), &[]),
        ] {
            let referenced = paths(&bootstrap.to_string(), None);
            assert_eq!(referenced.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{bootstrap}");
            assert_eq!(paths("{}", Some(&bootstrap.to_string())), referenced, "as an overlay");
        }
    }
}
