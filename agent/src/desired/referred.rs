//! Files that Envoy reads once, when it starts, because its bootstrap refers to them by `filename`. If one
//! changes, only a new Envoy will know.
//!
//! Envoy 1.40 watches a file with a `watched_directory` of its own, unless it is of TLS: certificates that do not
//! come over SDS are read once whatever they say, seen by experiment. Files that secrets from SDS refer to are
//! not in the bootstrap, and are watched.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Fields of TLS contexts whose files are never watched.
const TLS: [&str; 8] =
    ["certificatechain", "crl", "keys", "ocspstaple", "password", "pkcs12", "privatekey", "trustedca"];

/// What the bootstrap and what is laid over it refer to, as they spell it. Text that is no JSON refers to nothing.
pub(super) fn files(bootstrap: &str, overlay: Option<&str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in [Some(bootstrap), overlay].into_iter().flatten() {
        collect("", &serde_json::from_str(text).unwrap_or_default(), &mut found);
    }
    found
}

/// Recursion ends: the parser has a limit of its own.
fn collect(field: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(field, value, found)),
        Value::Object(fields) => {
            let file = fields.get("filename").and_then(Value::as_str).filter(|file| !file.is_empty());
            found.extend(file.filter(|_| !is_watched(field, fields)).map(ToOwned::to_owned));
            fields.iter().for_each(|(field, value)| collect(field, value, found));
        }
        _ => {}
    }
}

fn is_watched(field: &str, source: &Map<String, Value>) -> bool {
    source.keys().any(|key| plain(key) == "watcheddirectory") && !TLS.contains(&plain(field).as_str())
}

/// `certificate_chain` may as well be written `certificateChain`.
fn plain(field: &str) -> String {
    field.replace('_', "").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_envoy_reads_once_is_found_and_what_it_watches_is_not() {
        let folder = json!({"path": "/certs"});
        for (bootstrap, expected) in [
            (json!({"private_key": {"filename": "k"}}), &["k"][..]),
            (
                json!({"tls_certificates": [{"certificate_chain": {"filename": "c"}, "watched_directory": folder}]}),
                &["c"],
            ),
            (json!({"trusted_ca": {"filename": "r", "watched_directory": folder}}), &["r"]),
            (json!({"trustedCa": {"filename": "r", "watchedDirectory": folder}}), &["r"]),
            (
                json!({"session_ticket_keys": {"keys": [{"filename": "t", "watched_directory": folder}]}}),
                &["t"],
            ),
            (json!({"body": {"filename": "b", "watched_directory": folder}}), &[]),
            (json!({"body": {"filename": "b", "watchedDirectory": folder}}), &[]),
            (json!({"body": {"filename": "b"}}), &["b"]),
            (json!({"code": {"local": {"filename": "f.wasm"}}}), &["f.wasm"]),
            (json!({"sds_config": {"path_config_source": {"path": "/sds.yaml"}}}), &[]),
            (json!({"admin": {"access_log_path": "/dev/null"}, "filename": ""}), &[]),
            (json!({"filename": {"no": "text"}}), &[]),
        ] {
            let found = files(&bootstrap.to_string(), None);
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{bootstrap}");
            assert_eq!(files("{}", Some(&bootstrap.to_string())), found, "as an overlay");
        }
    }
}
