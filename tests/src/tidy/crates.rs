//! Dependencies between crates. `pilot-agent` and `pilot-discovery` share only the crates of `proto/`; the core
//! depends on nothing that can block.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Every crate, and the workspace crates it may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("pilot-proto", &[]),
    ("pilot-watch", &[]),
    ("pilot-xds", &["pilot-proto"]),
    ("pilot-core", &["pilot-proto", "pilot-xds"]),
    ("pilot-discovery", &["pilot-core", "pilot-proto", "pilot-watch", "pilot-xds"]),
    ("pilot-agent", &["pilot-proto", "pilot-watch", "pilot-xds"]),
    ("pilot-tests", &["pilot-core", "pilot-proto", "pilot-xds"]),
];

/// Dependencies that crates without I/O may have outside their tests. Those of `pilot-xds` that can wait belong to its
/// optional features, which the core must not enable.
const PURE: &[(&str, &[&str])] = &[
    (
        "pilot-core",
        &["bytes", "imbl", "pilot-proto", "pilot-xds", "prost", "regex", "serde", "serde_json", "thiserror"],
    ),
    (
        "pilot-xds",
        &[
            "bytes",
            "http",
            "http-body",
            "http-body-util",
            "imbl",
            "pilot-proto",
            "proptest",
            "prost",
            "thiserror",
            "tokio",
            "tonic",
        ],
    ),
];

pub(super) fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let packages = packages(root)?;
    for package in &packages {
        let name = text(package, "name");
        let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("{name} is not in the list of crates"));
            continue;
        };
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let needed = text(dependency, "name");
            let ours = CRATES.iter().any(|(known, _)| *known == needed);
            if ours && needed != name && !allowed.contains(&needed) {
                faults.push(format!("{name} may not depend on {needed}: imports point down"));
            }
            let Some((_, pure)) = PURE.iter().find(|(crate_name, _)| *crate_name == name) else { continue };
            if text(dependency, "kind") == "dev" {
                continue;
            }
            if !pure.contains(&needed) {
                faults.push(format!("{name} may not depend on {needed}: it is not on its list"));
            }
            let features = dependency.get("features").and_then(Value::as_array);
            if name == "pilot-core" && features.is_some_and(|features| features.iter().any(|on| on == "grpc"))
            {
                faults.push(format!("pilot-core may not enable the feature grpc of {needed}"));
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
