//! Which crate may depend on which. Agent and discovery meet on the wire and in `pilot-proto`, nowhere else; the core
//! depends on nothing that can block.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Every crate, and those of ours it may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("pilot-proto", &[]),
    ("pilot-proto", &[]),
    ("pilot-watch", &[]),
    ("pilot-xds", &["pilot-proto"]),
    ("pilot-core", &["pilot-proto", "pilot-xds"]),
    ("pilot-discovery", &["pilot-core", "pilot-proto", "pilot-watch", "pilot-xds"]),
    ("pilot-agent", &["pilot-proto", "pilot-watch", "pilot-xds"]),
    ("pilot-tests", &["pilot-core", "pilot-proto", "pilot-xds"]),
];

/// What the core may depend on outside its tests: data, and ways to write it down.
const CORE: &[&str] = &["bytes", "imbl", "pilot-proto", "prost", "regex", "serde", "serde_json", "thiserror"];

pub(super) fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let packages = packages(root)?;
    for package in &packages {
        let name = text(package, "name");
        let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("{name} is a crate with no place in the house"));
            continue;
        };
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let needed = text(dependency, "name");
            let ours = CRATES.iter().any(|(known, _)| *known == needed);
            if ours && !allowed.contains(&needed) {
                faults.push(format!("{name} may not depend on {needed}: imports point down"));
            }
            if name != "pilot-core" || text(dependency, "kind") == "dev" {
                continue;
            }
            if !CORE.contains(&needed) {
                faults.push(format!("pilot-core may not depend on {needed}: it is not on its list"));
            }
            let features = dependency.get("features").and_then(Value::as_array);
            if needed == "pilot-proto"
                && features.is_some_and(|features| features.iter().any(|on| on == "grpc"))
            {
                faults.push("pilot-core may not ask pilot-proto for gRPC: it sees messages only".into());
            }
        }
    }
    Ok(faults)
}

fn packages(root: &Path) -> Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path"]);
    let output = command.arg(root.join("Cargo.toml")).output().context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    metadata.get("packages").and_then(Value::as_array).cloned().context("cargo metadata has no packages")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
