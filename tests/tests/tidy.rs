//! The rules of the house hold, and each rule is broken once to show that it is checked.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pilot_tests::tidy::{Entry, entries, file_faults, manifest_faults};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_house_is_tidy() -> Result<()> {
    let mut faults = manifest_faults(root())?;
    faults.extend(file_faults(&entries(root())?));
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

/// An edit that breaks a rule, and a part of the finding that it must cause.
struct Break {
    edit: Edit,
    path: &'static str,
    finding: &'static str,
}

enum Edit {
    /// Adds a file.
    Add(&'static str),
    /// Adds a line to the end of a file.
    Append(&'static str),
    /// Replaces the first occurrence of a text.
    Replace(&'static str, &'static str),
}

use Edit::{Add, Append, Replace};

const BREAKS: &[Break] = &[
    // Crates.
    Break {
        path: "agent/Cargo.toml",
        edit: Replace("[dependencies]", "[dependencies]\npilot-core.workspace = true"),
        finding: "pilot-agent may not depend on pilot-core",
    },
    Break {
        path: "discovery/Cargo.toml",
        edit: Replace("[dev-dependencies]", "[dev-dependencies]\npilot-agent = { path = \"../agent\" }"),
        finding: "pilot-discovery may not depend on pilot-agent",
    },
    Break {
        path: "proto/Cargo.toml",
        edit: Replace("[dependencies]", "[dependencies]\npilot-core.workspace = true"),
        finding: "pilot-proto may not depend on pilot-core",
    },
    Break {
        path: "discovery/core/Cargo.toml",
        edit: Replace("[dependencies]", "[dependencies]\ntokio.workspace = true"),
        finding: "pilot-core may not depend on tokio",
    },
    Break {
        path: "discovery/core/Cargo.toml",
        edit: Replace(
            "pilot-proto.workspace = true",
            "pilot-proto = { workspace = true, features = [\"grpc\"] }",
        ),
        finding: "pilot-core may not enable the feature grpc of pilot-proto",
    },
    Break {
        path: "agent/Cargo.toml",
        edit: Replace("name = \"pilot-agent\"", "name = \"pilot-sidecar\""),
        finding: "pilot-sidecar is not in the list of crates",
    },
    Break {
        path: "proto/xds/Cargo.toml",
        edit: Replace("[dependencies]", "[dependencies]\nhyper.workspace = true"),
        finding: "pilot-xds may not depend on hyper",
    },
    // Layers of the core.
    Break {
        path: "discovery/core/src/model/mod.rs",
        edit: Append("use crate::world::World;"),
        finding: "`model` may not import `world::World`",
    },
    Break {
        path: "discovery/core/src/world/mod.rs",
        edit: Append("use super::{push::PushContext};"),
        finding: "`world` may not import `push::PushContext`",
    },
    Break {
        path: "discovery/core/src/push/mod.rs",
        edit: Append("fn f(scope: &crate::scope::Scope) {}"),
        finding: "`push` may not import `scope::Scope`",
    },
    Break {
        path: "discovery/core/src/scope.rs",
        edit: Append("use crate::{model::Service, generate::cluster};"),
        finding: "`scope` may not import `generate::cluster`",
    },
    Break {
        path: "discovery/core/src/generate/mod.rs",
        edit: Append("use crate::cache::Cache;"),
        finding: "`generate` may not import `cache::Cache`",
    },
    Break {
        path: "discovery/core/src/util.rs",
        edit: Add("//! Everything else.\n"),
        finding: "`util` is not in the list of layers",
    },
    // Import cycles, types, language.
    Break {
        path: "proto/xds/src/response.rs",
        edit: Append("use super::stream::Stream;"),
        finding: "proto/xds: import cycle between diff, ",
    },
    Break {
        path: "proto/xds/src/response.rs",
        edit: Append("pub(crate) struct NameSet;"),
        finding: "proto/xds: type `NameSet` is defined in",
    },
    Break {
        path: "proto/xds/src/extra.rs",
        edit: Add("//! Whether this is a header.\n"),
        finding: "a doc comment opens with `Whether`",
    },
    Break {
        path: "proto/xds/src/extra.rs",
        edit: Add("//! A stream that nobody reads.\n"),
        finding: "`nobody` is a word for persons",
    },
    Break {
        path: "proto/xds/src/extra.rs",
        edit: Add("//! Extra.\nconst MESSAGE: &str = \"somebody must read\";\n"),
        finding: "`somebody` in a message is a word for persons",
    },
    // Places.
    Break {
        path: "scripts/build.sh",
        edit: Add("#!/bin/sh\n"),
        finding: "scripts: the top level holds only",
    },
    Break {
        path: "proto/envoy/ads.proto",
        edit: Add("syntax = \"proto3\";\n"),
        finding: ".proto files are not allowed",
    },
    Break {
        path: "agent/src/driver.rs",
        edit: Append("fn home() -> Option<std::ffi::OsString> { std::env::var_os(\"HOME\") }"),
        finding: "agent/src/driver.rs: the environment is read in config/ only",
    },
    Break {
        path: "discovery/src/server.rs",
        edit: Append("fn stop() { std::process::exit(1) }"),
        finding: "discovery/src/server.rs: only main.rs ends the process",
    },
    Break {
        path: "agent/src/driver.rs",
        edit: Append("fn f() -> std::process::Command { todo() }"),
        finding: "agent/src/driver.rs: children are spawned in agent/src/process.rs only",
    },
    Break {
        path: "agent/src/driver.rs",
        edit: Append("use std::{fs, process::{Command, Stdio}};"),
        finding: "agent/src/driver.rs: children are spawned in agent/src/process.rs only",
    },
    Break {
        path: "agent/src/extra.rs",
        edit: Add("fn f() {}\n"),
        finding: "agent/src/extra.rs: does not begin with a `//!` header",
    },
    // Documents.
    Break {
        path: "README.md",
        edit: Append("See `agent/src/gone.rs`."),
        finding: "README.md: agent/src/gone.rs does not exist",
    },
    Break {
        path: "README.md",
        edit: Append("For whoever reads this."),
        finding: "`whoever` is a word for persons",
    },
    Break { path: "docker/extra/file", edit: Add("x"), finding: "docker/README.md: does not name extra/" },
    Break {
        path: "tests/src/extra/mod.rs",
        edit: Add("//! Extra.\n"),
        finding: "tests/README.md: does not name extra/",
    },
    Break {
        path: "tests/README.md",
        edit: Append("See `src/gone/`."),
        finding: "tests/README.md: src/gone/ does not exist",
    },
    Break {
        path: "docker/README.md",
        edit: Append("The engine, whoever runs it."),
        finding: "docker/README.md:70: `whoever` is a word for persons",
    },
    Break {
        path: ".clippy.toml",
        edit: Replace(
            "disallowed-types = [",
            "disallowed-types = [\n{ path = \"std::rc::Rc\", reason = \"\" },",
        ),
        finding: "discovery/core/.clippy.toml: does not repeat the root's { path = \"std::rc::Rc\"",
    },
];

/// Returns the files that rules about the file at `path` look at: its crate, and everything that is not Rust. The whole
/// repository takes most of a second for each broken rule.
fn related(entries: &[Entry], path: &str) -> Vec<Entry> {
    let krate = |path: &str| path.split_once("/src/").map(|(krate, _)| krate.to_owned());
    let is_related = |entry: &&Entry| !entry.is_rust() || krate(&entry.path) == krate(path);
    entries.iter().filter(is_related).cloned().collect()
}

/// Returns the content of a file after an edit.
fn edited(old: &str, edit: &Edit) -> Result<String> {
    Ok(match edit {
        Add(text) => (*text).to_owned(),
        Append(line) => format!("{old}\n{line}\n"),
        Replace(from, to) => {
            ensure!(old.contains(from), "no {from:?} to replace");
            old.replacen(from, to, 1)
        }
    })
}

#[test]
fn every_broken_rule_about_files_is_found() -> Result<()> {
    let entries = entries(root())?;
    for Break { path, edit, finding } in BREAKS.iter().filter(|broken| !broken.path.ends_with("Cargo.toml")) {
        let mut related = related(&entries, path);
        let before = file_faults(&related);
        match related.iter_mut().find(|entry| entry.path == *path) {
            Some(entry) => entry.text = edited(&entry.text, edit).with_context(|| (*path).to_owned())?,
            None => related.push(Entry { path: (*path).to_owned(), text: edited("", edit)? }),
        }
        related.sort_by(|a, b| a.path.cmp(&b.path));
        let after: Vec<String> =
            file_faults(&related).into_iter().filter(|fault| !before.contains(fault)).collect();
        ensure!(
            after.iter().any(|fault| fault.contains(finding)),
            "{path}: {finding:?} is not among {after:#?}"
        );
    }
    Ok(())
}

#[test]
fn every_broken_rule_about_dependencies_is_found() -> Result<()> {
    let copy = tempfile::tempdir()?;
    for entry in entries(root())? {
        let target = copy.path().join(&entry.path);
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        // Cargo looks for the targets of a package but does not read them.
        let is_manifest = entry.path.ends_with("Cargo.toml");
        fs::write(target, if is_manifest { entry.text } else { String::new() })?;
    }
    ensure!(manifest_faults(copy.path())? == manifest_faults(root())?, "the copy differs");
    for Break { path, edit, finding } in BREAKS.iter().filter(|broken| broken.path.ends_with("Cargo.toml")) {
        let target = copy.path().join(path);
        let old = fs::read_to_string(&target)?;
        fs::write(&target, edited(&old, edit).with_context(|| (*path).to_owned())?)?;
        let faults = manifest_faults(copy.path())?;
        ensure!(
            faults.iter().any(|fault| fault.contains(finding)),
            "{path}: {finding:?} is not among {faults:#?}"
        );
        fs::write(&target, old)?;
    }
    Ok(())
}

#[test]
fn a_file_of_more_than_400_lines_is_found() {
    let long =
        Entry { path: "agent/src/long.rs".to_owned(), text: format!("//! Long.\n{}", "\n".repeat(400)) };
    let finding = "agent/src/long.rs: 401 lines, 400 at most";
    assert!(file_faults(&[long]).iter().any(|fault| fault == finding));
}

#[test]
fn a_top_readme_of_more_than_150_lines_is_found() {
    let readme = Entry { path: "README.md".to_owned(), text: "\n".repeat(151) };
    let finding = "README.md: 151 lines, 150 at most";
    assert!(file_faults(&[readme]).iter().any(|fault| fault == finding));
}
