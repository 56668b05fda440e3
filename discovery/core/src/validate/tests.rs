#![allow(clippy::needless_pass_by_value, reason = "values of a table are written where they are used")]

use serde_json::{Value, json};

use super::*;
use crate::model::{ConfigKind, ConfigMeta};

mod destinations;
mod edge;
mod others;
mod routes;

/// Reads a spec as files are read; every field in it must be known.
pub(super) fn spec(kind: ConfigKind, value: &Value) -> ConfigSpec {
    let read = ConfigSpec::read(kind, value).unwrap_or_else(|wrong| panic!("{value}: {wrong}"));
    assert_eq!(read.unknown, [""; 0], "{value}");
    read.value
}

fn object(kind: ConfigKind, value: &Value) -> ConfigObject {
    let meta = ConfigMeta {
        namespace: "default".into(),
        name: "a".into(),
        labels: [].into(),
        annotations: [].into(),
        created: 0,
    };
    ConfigObject { meta, spec: spec(kind, value) }
}

fn told(object: &ConfigObject) -> Vec<String> {
    let mark = |severity| if severity == Severity::Warning { "warning " } else { "" };
    config(object).iter().map(|finding| format!("{}{finding}", mark(finding.severity))).collect()
}

/// Checks the complete findings about a spec, each line by its beginning. The warning that secrets are not served applies to many
/// fields, and is tested with their table.
fn check(kind: ConfigKind, value: &Value, expected: &[&str]) {
    let mut told = told(&object(kind, value));
    told.retain(|line| !line.contains("asks for a secret"));
    let fits =
        told.len() == expected.len() && told.iter().zip(expected).all(|(told, line)| told.starts_with(line));
    assert!(fits, "{value:#}\n expected {expected:#?}\n    found {told:#?}");
}

#[test]
fn annotations_of_istios_own_are_refused() {
    let mut object = object(ConfigKind::WorkloadEntry, &json!({"address": "1.1.1.1"}));
    object.meta.annotations = [("istio.io/dry-run".into(), "true".into())].into();
    assert_eq!(told(&object), ["metadata.annotations.istio.io/dry-run: is not for objects of this kind"]);
}

#[test]
fn names_and_hosts_are_told_from_what_looks_like_them() {
    use super::values::{is_dns_label, is_host, is_wildcard_host, is_within};
    let long = "a".repeat(64);
    for (text, label, host, wildcard) in [
        ("a", true, true, true),
        ("A-1", true, true, true),
        ("1", true, false, true),
        ("a.b.", false, true, true),
        ("a.1", false, false, false),
        ("10.0.0.1", false, false, false),
        ("", false, false, false),
        (".", false, false, false),
        ("a..b", false, false, false),
        ("-a.b", false, false, false),
        ("a-.b", false, false, false),
        ("a_b.c", false, false, false),
        ("a|b", false, false, false),
        (&long, false, false, false),
        ("*", false, false, true),
        ("*.com", false, false, true),
        ("*a.com", false, false, true),
        ("*-a.com", false, false, true),
        ("**.com", false, false, false),
        ("a*.com", false, false, false),
        ("a.*.com", false, false, false),
        ("*.", false, false, true),
    ] {
        assert_eq!(
            (is_dns_label(text), is_host(text), is_wildcard_host(text)),
            (label, host, wildcard),
            "{text:?}"
        );
    }
    for (narrow, wide, is) in [
        ("a.com", "a.com", true),
        ("a.com", "b.com", false),
        ("a.com", "*.com", true),
        ("*.com", "a.com", false),
        ("*.a.com", "*.com", true),
        ("*.com", "*.a.com", false),
        ("*.com", "*", true),
    ] {
        assert_eq!(is_within(narrow, wide), is, "{narrow} in {wide}");
    }
}
