//! File layout: top-level folders, headers, length, code that is allowed in one place only.

use std::collections::BTreeSet;

use super::{Entry, source};

/// The top level, besides dot files.
const TOP: [&str; 9] =
    ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "agent", "discovery", "docker", "proto", "tests"];

/// Maximum number of lines of a file.
const LINES: usize = 400;

/// Longer files, with the reason.
const LONG: &[(&str, &str)] = &[];

/// Paths of the standard library that only one place may use: the paths, the place, the rule.
const ONLY_IN: &[(&[&str], &str, &str)] = &[
    (
        &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        "/config/",
        "the environment is read in config/ only",
    ),
    (&["process::exit"], "/main.rs", "only main.rs ends the process"),
    (&["process::Command"], "agent/src/process.rs", "children are spawned in agent/src/process.rs only"),
];

pub(super) fn faults(entries: &[Entry]) -> Vec<String> {
    let mut faults = top(entries);
    faults.extend(entries.iter().filter(|entry| entry.has_extension("proto")).map(|entry| {
        format!("{}: .proto files are not allowed, the API comes from a package's descriptors", entry.path)
    }));
    for entry in entries.iter().filter(|entry| entry.is_rust()) {
        faults.extend(length(entry));
        faults.extend(header(entry));
        faults.extend(only_in(entry));
    }
    faults.extend(bans(entries));
    faults
}

fn top(entries: &[Entry]) -> Vec<String> {
    let names: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.path.split('/').next()).collect();
    let strange = names.into_iter().filter(|name| !name.starts_with('.') && !TOP.contains(name));
    strange.map(|name| format!("{name}: the top level holds only {}", TOP.join(" "))).collect()
}

fn length(entry: &Entry) -> Option<String> {
    let lines = entry.text.lines().count();
    // Tests are often tables of cases.
    if entry.is_test() {
        return None;
    }
    let excused = LONG.iter().any(|(path, _)| *path == entry.path);
    match (lines > LINES, excused) {
        (true, false) => Some(format!("{}: {lines} lines, {LINES} at most", entry.path)),
        (false, true) => {
            Some(format!("{}: has an exception for its length and does not need it", entry.path))
        }
        _ => None,
    }
}

/// Checks that a file begins with a header. Files of unit tests need none.
fn header(entry: &Entry) -> Option<String> {
    if entry.text.starts_with("//!") || (entry.is_test() && entry.path.contains("/src/")) {
        return None;
    }
    Some(format!("{}: does not begin with a `//!` header", entry.path))
}

fn only_in(entry: &Entry) -> Vec<String> {
    // The harness starts programs; build scripts and tests read the environment.
    if entry.path.starts_with("tests/") || entry.is_test() || entry.path.ends_with("/build.rs") {
        return Vec::new();
    }
    let code = source::code(&entry.text);
    let imported = source::paths(&code, "std");
    let used = ONLY_IN.iter().filter(|(words, place, _)| {
        let named = |word: &&str| source::names(&code, word) || imported.iter().any(|path| path == word);
        !entry.path.contains(place) && words.iter().any(named)
    });
    used.map(|(_, _, rule)| format!("{}: {rule}", entry.path)).collect()
}

/// Checks that the `.clippy.toml` of a crate, which replaces that of the root, repeats every ban.
fn bans(entries: &[Entry]) -> Vec<String> {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let root = entries.iter().find(|entry| entry.path == ".clippy.toml").map(|entry| lines(&entry.text));
    // Tests spawn processes and read the environment.
    let crates = entries
        .iter()
        .filter(|entry| entry.path.ends_with("/.clippy.toml") && entry.path != "tests/.clippy.toml");
    let missing = crates.flat_map(|entry| {
        let own = lines(&entry.text);
        let bans = root.iter().flatten().filter(|line| line.starts_with("{ path"));
        let missing = bans.filter(move |line| !own.contains(line));
        missing.map(|line| format!("{}: does not repeat the root's {line}", entry.path))
    });
    missing.collect()
}
