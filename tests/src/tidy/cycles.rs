//! Import cycles between sibling modules.
//!
//! Two modules below the same parent are siblings. One imports the other if any file below it names a path in it, by
//! `crate::`, by `super::`, or by a name that the parent imports from it. Imports between a module and those above it are
//! not looked at: a parent is made of its children.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, source};

/// Crates that the rule holds for so far.
const CRATES: [&str; 4] = ["agent", "proto", "proto/xds", "tests"];

/// A module by its path below the crate.
type Module = Vec<String>;

pub(super) fn faults(entries: &[Entry]) -> Vec<String> {
    let mut crates: BTreeMap<&str, Vec<(Module, Source)>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.is_rust() && !entry.is_test()) {
        if let Some((krate, below)) =
            entry.path.split_once("/src/").filter(|(krate, _)| CRATES.contains(krate))
        {
            let code = source::code(source::without_tests(&entry.text));
            crates.entry(krate).or_default().push((module(below), Source::of(&code)));
        }
    }
    crates.into_iter().flat_map(|(krate, modules)| cycles(krate, &modules)).collect()
}

/// Imports of a file.
struct Source {
    /// Paths from the root of the crate.
    absolute: Vec<Vec<String>>,
    /// Paths that start with `super`.
    relative: Vec<Vec<String>>,
    /// Paths of `use` declarations that start with a child module.
    children: Vec<Vec<String>>,
}

impl Source {
    fn of(code: &str) -> Self {
        let split = |path: String| path.split("::").map(str::to_owned).collect::<Vec<_>>();
        let with_super = |path: String| split(format!("super::{path}"));
        let uses = code.split("use ").skip(1).filter_map(|rest| rest.split(';').next());
        let children = uses.flat_map(|path| source::paths(&format!("self::{path}"), "self"));
        Self {
            absolute: source::paths(code, "crate").into_iter().map(split).collect(),
            relative: source::paths(code, "super").into_iter().map(with_super).collect(),
            children: children.map(split).collect(),
        }
    }
}

/// `a/b.rs` and `a/b/mod.rs` are `[a, b]`; `lib.rs` and `main.rs` are the root.
fn module(below: &str) -> Module {
    let path = below.trim_end_matches(".rs").trim_end_matches("/mod");
    let root = matches!(path, "lib" | "main" | "mod");
    if root { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn cycles(krate: &str, modules: &[(Module, Source)]) -> Vec<String> {
    let known: BTreeMap<&Module, &Source> = modules.iter().map(|(module, source)| (module, source)).collect();
    let mut edges: BTreeMap<(Module, String), BTreeSet<String>> = BTreeMap::new();
    for (module, source) in modules {
        let relative = source.relative.iter().filter_map(|path| climb(module, path));
        for path in source.absolute.iter().cloned().chain(relative) {
            let target = resolve(&known, &path, 4);
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), target.get(common)) {
                let parent = module.iter().take(common).cloned().collect();
                edges.entry((parent, from.clone())).or_default().insert(to.clone());
            }
        }
    }
    let mut faults = BTreeSet::new();
    for (parent, start) in edges.keys() {
        if let Some(ring) = ring(&edges, parent, start) {
            let names: Vec<String> = ring.iter().map(|name| path(parent, name)).collect();
            faults.insert(format!("{krate}: import cycle between {}", names.join(", ")));
        }
    }
    faults.into_iter().collect()
}

fn path(parent: &Module, name: &str) -> String {
    parent.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("::")
}

/// The absolute path of one that starts with `super`.
fn climb(module: &Module, path: &[String]) -> Option<Vec<String>> {
    let climbed = path.iter().take_while(|part| *part == "super").count();
    let kept = module.len().checked_sub(climbed)?;
    Some(module.iter().take(kept).cloned().chain(path.iter().skip(climbed).cloned()).collect())
}

/// The module that a path leads to, through at most `hops` declarations that name a child's items.
fn resolve(known: &BTreeMap<&Module, &Source>, path: &[String], hops: usize) -> Module {
    let length = (0..=path.len())
        .rev()
        .find(|length| path.get(..*length).is_some_and(|prefix| known.contains_key(&prefix.to_vec())));
    let module: Module = path.iter().take(length.unwrap_or_default()).cloned().collect();
    let (Some(item), Some(source)) = (path.get(module.len()), known.get(&module)) else { return module };
    let from_child = source.children.iter().find(|child| {
        child.len() > 1 && child.last() == Some(item) && {
            let below: Module = module.iter().chain(child.first()).cloned().collect();
            known.contains_key(&below)
        }
    });
    match from_child {
        Some(child) if hops > 0 => {
            let path: Vec<String> = module.iter().chain(child).cloned().collect();
            resolve(known, &path, hops - 1)
        }
        _ => module,
    }
}

/// The modules that import each other, directly or not, and `start` among them.
fn ring(
    edges: &BTreeMap<(Module, String), BTreeSet<String>>,
    parent: &Module,
    start: &str,
) -> Option<BTreeSet<String>> {
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(next) = open.pop() {
            for to in edges.get(&(parent.clone(), next)).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        reached
    };
    let from_start = reached(start);
    if !from_start.contains(start) {
        return None;
    }
    Some(from_start.iter().filter(|name| reached(name).contains(start)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let entry = |(path, text): &(&str, &str)| Entry {
            path: format!("agent/src/{path}"),
            text: (*text).to_owned(),
        };
        let entries: Vec<Entry> = files.iter().map(entry).collect();
        assert_eq!(faults(&entries), expected, "{files:?}");
    }

    #[test]
    fn cycle_of_siblings_is_found_by_crate_and_super_paths() {
        let cycle = ["agent: import cycle between b, c"];
        check(&[("b.rs", "use crate::c::X;"), ("c.rs", "use super::b::Y;")], &cycle);
        let nested = [("b/mod.rs", "use crate::c;"), ("c/mod.rs", ""), ("c/d.rs", "use super::super::b::Y;")];
        check(&nested, &cycle);
        check(&[("b.rs", "use crate::c::X;"), ("c.rs", "use crate::d::Y;"), ("d.rs", "")], &[]);
        let ring = [("b.rs", "use super::c;"), ("c.rs", "use super::d;"), ("d.rs", "use super::b;")];
        check(&ring, &["agent: import cycle between b, c, d"]);
    }

    #[test]
    fn cycle_through_names_that_the_parent_imports_is_found() {
        let root = ("lib.rs", "mod b;\nmod c;\npub use b::{Y, Z};\npub use c::X;");
        let modules = [root, ("b.rs", "use super::X;"), ("c.rs", "use crate::{Y};")];
        check(&modules, &["agent: import cycle between b, c"]);
        check(&[root, ("b.rs", "use super::X;"), ("c.rs", "")], &[]);
    }

    #[test]
    fn imports_of_parents_and_in_tests_are_no_cycles() {
        check(&[("b/mod.rs", "use self::c::X;"), ("b/c.rs", "use super::Y;")], &[]);
        let tested = "use crate::c::X;\n#[cfg(test)]\nmod tests {\n    use crate::d::Y;\n}";
        check(&[("b.rs", tested), ("c.rs", ""), ("d.rs", "use crate::b::Z;")], &[]);
    }
}
