//! Documents: the README files, their length, and the folders that they name.

use std::collections::BTreeSet;

use super::Entry;

/// Maximum number of lines of the README at the top.
const TOP_LINES: usize = 150;

/// Folders with a README that names their top folders: those in `src/` for a crate, else their own.
const FOLDERS: &[&str] =
    &["agent", "discovery", "discovery/core", "docker", "proto", "proto/watch", "proto/xds", "tests"];

pub(super) fn faults(entries: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(readme) = entries.iter().find(|entry| entry.path == "README.md") {
        let lines = readme.text.lines().count();
        if lines > TOP_LINES {
            faults.push(format!("README.md: {lines} lines, {TOP_LINES} at most"));
        }
        faults
            .extend(stale(entries, "", &readme.text).map(|name| format!("README.md: {name} does not exist")));
    }
    for folder in FOLDERS {
        let path = format!("{folder}/README.md");
        match entries.iter().find(|entry| entry.path == path) {
            None => faults.push(format!("{path}: missing")),
            Some(readme) => {
                faults.extend(
                    unnamed(entries, folder, &readme.text)
                        .map(|name| format!("{path}: does not name {name}/")),
                );
                faults.extend(
                    stale(entries, folder, &readme.text).map(|name| format!("{path}: {name} does not exist")),
                );
            }
        }
    }
    faults
}

/// Returns true for a README that the rules for prose apply to.
pub(super) fn is_checked(path: &str) -> bool {
    path == "README.md" || path.strip_suffix("/README.md").is_some_and(|folder| FOLDERS.contains(&folder))
}

/// Returns the top folders that a README does not name.
fn unnamed<'a>(entries: &'a [Entry], folder: &str, readme: &str) -> impl Iterator<Item = &'a str> {
    let is_crate = entries.iter().any(|entry| entry.path == format!("{folder}/Cargo.toml"));
    let parent = if is_crate { format!("{folder}/src/") } else { format!("{folder}/") };
    let below = entries.iter().filter(|entry| !entry.is_test());
    let below = below.filter_map(|entry| entry.path.strip_prefix(&parent)?.split_once('/'));
    let names: BTreeSet<&str> = below.map(|(name, _)| name).collect();
    names.into_iter().filter(|name| !readme.contains(&format!("{name}/`")))
}

/// Returns the paths that a README names and that do not exist: those below `src/` of its crate, or in the README at the top
/// those below a top-level folder.
fn stale<'a>(entries: &[Entry], folder: &str, readme: &'a str) -> impl Iterator<Item = &'a str> {
    let prefixes: &[&str] =
        if folder.is_empty() { &["agent/", "discovery/", "docker/", "proto/", "tests/"] } else { &["src/"] };
    let quoted = readme.split('`').skip(1).step_by(2);
    quoted.filter(move |path| {
        let full = format!("{folder}/{path}");
        let full = full.trim_start_matches('/');
        let exists =
            |entry: &Entry| entry.path == full || (full.ends_with('/') && entry.path.starts_with(full));
        let is_path =
            prefixes.iter().any(|prefix| path.starts_with(prefix)) && !path.contains(['{', '*', ' ']);
        is_path && !entries.iter().any(exists)
    })
}
