//! Layers of the core: each imports only from the layers before it in [`LAYERS`]. Tests may import from all layers.

use super::{Entry, source};

const CORE: &str = "discovery/core/src/";
const LAYERS: [&str; 10] =
    ["api", "model", "validate", "patch", "world", "push", "scope", "generate", "cache", "simulate"];

pub(super) fn faults(entries: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_rust() && !entry.is_test()) {
        let Some(below) = entry.path.strip_prefix(CORE).filter(|below| *below != "lib.rs") else { continue };
        let module = below.split(['/', '.']).next().unwrap_or_default();
        if !LAYERS.contains(&module) {
            faults.push(format!("{}: `{module}` is not in the list of layers of the core", entry.path));
            continue;
        }
        for path in named(below, &source::code(&entry.text)) {
            if !allows(module, &path) {
                faults.push(format!("{}: `{module}` may not import `{path}`", entry.path));
            }
        }
    }
    faults.dedup();
    faults
}

fn allows(module: &str, path: &str) -> bool {
    let named = path.split("::").next().unwrap_or_default();
    if named == module {
        return true;
    }
    let position = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    match (position(module), position(named)) {
        (Some(of_module), Some(of_import)) => of_import < of_module,
        _ => true,
    }
}

/// Returns the paths from the crate root that a file names, by `crate::` or by enough `super::`.
fn named(below: &str, code: &str) -> Vec<String> {
    let mut found = source::paths(code, "crate");
    let depth = below.trim_end_matches("/mod.rs").matches('/').count() + 1;
    for path in source::paths(code, "super") {
        let levels = path.split("::").take_while(|part| *part == "super").count();
        let rest: Vec<&str> = path.split("::").skip(levels).collect();
        let reaches_root = levels + 1 >= depth;
        if reaches_root && rest.first().is_some_and(|first| LAYERS.contains(first)) {
            found.push(rest.join("::"));
        }
    }
    found
}
