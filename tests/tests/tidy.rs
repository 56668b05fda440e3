//! The house is tidy, and each rule sees when it is broken: shown on copies with one rule broken each.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pilot_tests::tidy::{entries, faults};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_house_is_tidy() -> Result<()> {
    let faults = faults(root())?;
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

/// An edit that breaks a rule, and a part of the finding that it must cause.
struct Break {
    edit: Edit,
    path: &'static str,
    told: &'static str,
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
        told: "pilot-agent may not depend on pilot-core",
    },
    Break {
        path: "discovery/Cargo.toml",
        edit: Replace("[dev-dependencies]", "[dev-dependencies]\npilot-agent = { path = \"../agent\" }"),
        told: "pilot-discovery may not depend on pilot-agent",
    },
    Break {
        path: "proto/Cargo.toml",
        edit: Replace("[dependencies]", "[dependencies]\npilot-core.workspace = true"),
        told: "pilot-proto may not depend on pilot-core",
    },
    Break {
        path: "discovery/core/Cargo.toml",
        edit: Replace("[dependencies]", "[dependencies]\ntokio.workspace = true"),
        told: "pilot-core may not depend on tokio",
    },
    Break {
        path: "discovery/core/Cargo.toml",
        edit: Replace(
            "pilot-proto.workspace = true",
            "pilot-proto = { workspace = true, features = [\"grpc\"] }",
        ),
        told: "pilot-core may not enable the feature grpc of pilot-proto",
    },
    Break {
        path: "agent/Cargo.toml",
        edit: Replace("name = \"pilot-agent\"", "name = \"pilot-sidecar\""),
        told: "pilot-sidecar is a crate with no place",
    },
    Break {
        path: "proto/xds/Cargo.toml",
        edit: Replace("[dependencies]", "[dependencies]\nhyper.workspace = true"),
        told: "pilot-xds may not depend on hyper",
    },
    // Layers of the core.
    Break {
        path: "discovery/core/src/model/mod.rs",
        edit: Append("use crate::world::World;"),
        told: "`model` may not know `world::World`",
    },
    Break {
        path: "discovery/core/src/world/mod.rs",
        edit: Append("use super::{push::PushContext};"),
        told: "`world` may not know `push::PushContext`",
    },
    Break {
        path: "discovery/core/src/push/mod.rs",
        edit: Append("fn f(scope: &crate::scope::Scope) {}"),
        told: "`push` may not know `scope::Scope`",
    },
    Break {
        path: "discovery/core/src/scope.rs",
        edit: Append("use crate::{model::Service, generate::cluster};"),
        told: "`scope` may not know `generate::cluster`",
    },
    Break {
        path: "discovery/core/src/generate/mod.rs",
        edit: Append("use crate::cache::Cache;"),
        told: "`generate` may not know `cache::Cache`",
    },
    Break {
        path: "discovery/core/src/util.rs",
        edit: Add("//! Everything else.\n"),
        told: "`util` has no place among the layers",
    },
    // Import cycles, types, language.
    Break {
        path: "proto/xds/src/response.rs",
        edit: Append("use super::stream::Stream;"),
        told: "proto/xds: import cycle between diff, ",
    },
    Break {
        path: "proto/xds/src/response.rs",
        edit: Append("pub(crate) struct NameSet;"),
        told: "proto/xds: type `NameSet` is defined in",
    },
    Break {
        path: "proto/xds/src/extra.rs",
        edit: Add("//! Whether this is a header.\n"),
        told: "a doc comment opens with `Whether`",
    },
    Break {
        path: "proto/xds/src/extra.rs",
        edit: Add("//! A stream that nobody reads.\n"),
        told: "`nobody` is a word for persons",
    },
    Break {
        path: "proto/xds/src/extra.rs",
        edit: Add("//! Extra.\nconst MESSAGE: &str = \"somebody must read\";\n"),
        told: "`somebody` in a message is a word for persons",
    },
    // Places.
    Break { path: "scripts/build.sh", edit: Add("#!/bin/sh\n"), told: "scripts: the top level holds only" },
    Break {
        path: "proto/envoy/ads.proto",
        edit: Add("syntax = \"proto3\";\n"),
        told: "no .proto files are kept",
    },
    Break {
        path: "agent/src/driver.rs",
        edit: Append("fn home() -> Option<std::ffi::OsString> { std::env::var_os(\"HOME\") }"),
        told: "agent/src/driver.rs: the environment is read in config/ only",
    },
    Break {
        path: "discovery/src/server.rs",
        edit: Append("fn stop() { std::process::exit(1) }"),
        told: "discovery/src/server.rs: only main.rs ends the process",
    },
    Break {
        path: "agent/src/driver.rs",
        edit: Append("fn f() -> std::process::Command { todo() }"),
        told: "agent/src/driver.rs: children are spawned in agent/src/process.rs only",
    },
    Break {
        path: "agent/src/driver.rs",
        edit: Append("use std::{fs, process::{Command, Stdio}};"),
        told: "agent/src/driver.rs: children are spawned in agent/src/process.rs only",
    },
    Break {
        path: "agent/src/extra.rs",
        edit: Add("fn f() {}\n"),
        told: "agent/src/extra.rs: does not say in its first line",
    },
    Break {
        path: "agent/src/extra/deep.rs",
        edit: Add("//! Deep.\n"),
        told: "the code map does not name agent/src/extra/",
    },
    Break {
        path: "README.md",
        edit: Replace("\n## Invariants", "| `agent/src/{main,gone}.rs` | what has left |\n\n## Invariants"),
        told: "the code map names agent/src/gone.rs, which is not there",
    },
    Break {
        path: ".clippy.toml",
        edit: Replace(
            "disallowed-types = [",
            "disallowed-types = [\n{ path = \"std::rc::Rc\", reason = \"\" },",
        ),
        told: "discovery/core/.clippy.toml: does not repeat the root's { path = \"std::rc::Rc\"",
    },
];

#[test]
fn every_broken_rule_is_seen() -> Result<()> {
    let before = faults(root())?;
    for Break { path, edit, told } in BREAKS {
        let copy = copy()?;
        let target = copy.path().join(path);
        let old = fs::read_to_string(&target).unwrap_or_default();
        let new = match edit {
            Add(text) => (*text).to_owned(),
            Append(line) if old.is_empty() => format!("//! New.\n{line}\n"),
            Append(line) => format!("{old}\n{line}\n"),
            Replace(from, to) => {
                ensure!(old.contains(from), "{path} has no {from:?} to replace");
                old.replacen(from, to, 1)
            }
        };
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        fs::write(&target, new)?;
        let fresh: Vec<String> =
            faults(copy.path())?.into_iter().filter(|fault| !before.contains(fault)).collect();
        ensure!(fresh.iter().any(|fault| fault.contains(told)), "{path}: {told:?} is not among {fresh:#?}");
    }
    Ok(())
}

#[test]
fn a_file_that_grew_too_long_is_seen() -> Result<()> {
    let copy = copy()?;
    fs::write(copy.path().join("agent/src/long.rs"), format!("//! Long.\n{}", "\n".repeat(400)))?;
    let told = "agent/src/long.rs: 401 lines, and no reason why it is not split";
    ensure!(faults(copy.path())?.iter().any(|fault| fault == told));
    Ok(())
}

#[test]
fn an_untouched_copy_is_as_tidy_as_the_house() -> Result<()> {
    assert_eq!(faults(copy()?.path())?, faults(root())?);
    Ok(())
}

fn copy() -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in entries(root())? {
        let target = copy.path().join(&entry.path);
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        fs::write(target, entry.text)?;
    }
    Ok(copy)
}
