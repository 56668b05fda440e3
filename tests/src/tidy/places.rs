//! File layout: top-level folders, headers, length, code that is allowed in one place only, code map.

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
        format!("{}: no .proto files are kept, the API comes from a package's descriptors", entry.path)
    }));
    for entry in entries.iter().filter(|entry| entry.is_rust()) {
        faults.extend(length(entry));
        faults.extend(header(entry));
        faults.extend(only_in(entry));
    }
    faults.extend(code_map(entries));
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
    // A table of cases is as long as its cases are many.
    if entry.is_test() {
        return None;
    }
    let excused = LONG.iter().any(|(path, _)| *path == entry.path);
    match (lines > LINES, excused) {
        (true, false) => Some(format!("{}: {lines} lines, and no reason why it is not split", entry.path)),
        (false, true) => Some(format!("{}: is short by now, and still excused for its length", entry.path)),
        _ => None,
    }
}

/// Unit tests say in their names what they are about; everything else says it in its first line.
fn header(entry: &Entry) -> Option<String> {
    if entry.text.starts_with("//!") || (entry.is_test() && entry.path.contains("/src/")) {
        return None;
    }
    Some(format!("{}: does not say in its first line what it decides and what it does not know", entry.path))
}

fn only_in(entry: &Entry) -> Vec<String> {
    // The harness starts programs; build scripts and tests speak with cargo and its user by environment.
    if entry.path.starts_with("tests/") || entry.is_test() || entry.path.ends_with("/build.rs") {
        return Vec::new();
    }
    let code = source::code(&entry.text);
    let imported = source::paths(&code, "std");
    let used = ONLY_IN.iter().filter(|(words, place, _)| {
        let named = |word: &&str| source::names(&code, word) || imported.iter().any(|path| path == word);
        !entry.path.contains(place) && words.iter().any(named)
    });
    used.map(|(_, _, why)| format!("{}: {why}", entry.path)).collect()
}

/// Checks that the README names the folder of every module, by its path or in the row of the folder above it, and that every
/// path in the code map exists.
fn code_map(entries: &[Entry]) -> Vec<String> {
    let readme = entries.iter().find(|entry| entry.path == "README.md").map_or("", |entry| &entry.text);
    let modules =
        entries.iter().filter(|entry| entry.is_rust() && !entry.is_test() && entry.path.contains("/src/"));
    let folders: BTreeSet<&str> = modules.filter_map(|entry| Some(entry.path.rsplit_once('/')?.0)).collect();
    let in_row_above = |folder: &str| {
        folder.rsplit_once('/').is_some_and(|(above, name)| {
            let (above, name) = (format!("| `{above}/`"), format!("`{name}/"));
            readme.lines().any(|line| line.starts_with(&above) && line.contains(&name))
        })
    };
    let missing =
        folders.iter().filter(|folder| !readme.contains(&format!("{folder}/")) && !in_row_above(folder));
    let mut faults: Vec<String> =
        missing.map(|folder| format!("README.md: the code map does not name {folder}/")).collect();
    // Other tables are about other things.
    let map = readme.lines().skip_while(|line| *line != "## Code map").skip(1);
    let map = map.take_while(|line| !line.starts_with("## "));
    let rows = map.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let stale = rows.flat_map(alternatives).filter(|path| {
        !entries.iter().any(|entry| {
            entry.path == *path || (path.ends_with('/') && entry.path.starts_with(path.as_str()))
        })
    });
    faults.extend(stale.map(|path| format!("README.md: the code map names {path}, which is not there")));
    faults
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((head, (middle, tail))) =
        path.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)))
    else {
        return vec![path.to_owned()];
    };
    middle.split(',').map(|one| format!("{head}{one}{tail}")).collect()
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
