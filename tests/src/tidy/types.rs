//! Names of types: one meaning in a crate.

use std::collections::BTreeMap;

use super::{Entry, source};

/// Names that mean the same wherever they are.
const COMMON: [&str; 7] = ["Args", "Config", "Error", "Options", "Request", "Response", "Settings"];

/// Crates that the rule holds for so far.
const CRATES: [&str; 3] = ["proto/watch", "proto/xds", "tests"];

pub(super) fn faults(entries: &[Entry]) -> Vec<String> {
    let mut types: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.is_rust() && !entry.is_test()) {
        let Some((krate, _)) = entry.path.split_once("/src/") else { continue };
        if !CRATES.contains(&krate) {
            continue;
        }
        let code = source::code(source::without_tests(&entry.text));
        for name in code.lines().filter_map(type_name) {
            if !COMMON.contains(&name) {
                types.entry((krate, name.to_owned())).or_default().push(&entry.path);
            }
        }
    }
    let repeated = types.into_iter().filter(|(_, paths)| paths.len() > 1);
    repeated
        .map(|((krate, name), paths)| format!("{krate}: type `{name}` is defined in {}", paths.join(", ")))
        .collect()
}

/// The name that a line defines for more than its own file.
fn type_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    let (keyword, rest) = rest.trim_start().split_once(' ')?;
    if !matches!(keyword, "struct" | "enum" | "union" | "trait" | "type") {
        return None;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_those_that_other_files_can_see() {
        for (line, expected) in [
            ("pub struct Cluster {", Some("Cluster")),
            ("pub(crate) enum Kind<T> {", Some("Kind")),
            ("    pub(super) type Map = BTreeMap<u8, u8>;", Some("Map")),
            ("pub trait Collect: Send {", Some("Collect")),
            ("struct Private;", None),
            ("pub fn structure() {}", None),
            ("public struct", None),
        ] {
            assert_eq!(type_name(line), expected, "{line}");
        }
    }
}
