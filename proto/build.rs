//! Generates Envoy's API from the descriptor set inside the `envoy-types` package.
//!
//! No `.proto` file is kept here and no `protoc` is needed: the package carries the compiled
//! descriptors of the whole API. That file is internal to the package, so the version is pinned
//! and the build stops with its path when the file is not there.
//!
//! Maps become `BTreeMap` and bytes become `Bytes`: equal messages encode to equal bytes, which is
//! what makes a content hash usable as a resource version, and a body shareable between streams.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a build script asks cargo, and cargo speaks by environment"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Path of the descriptors inside the `envoy-types` package.
const DESCRIPTORS: &str = "src/generated/types.bin";

/// Files to generate (or folders, with a final `/`), together with everything they import.
const ROOTS: &[&str] = &[
    "envoy/admin/v3/",
    "envoy/config/accesslog/v3/",
    "envoy/config/bootstrap/v3/",
    "envoy/config/cluster/v3/",
    "envoy/config/core/v3/",
    "envoy/config/endpoint/v3/",
    "envoy/config/listener/v3/",
    "envoy/config/metrics/v3/",
    "envoy/config/overload/v3/",
    "envoy/config/rbac/v3/",
    "envoy/config/route/v3/",
    "envoy/config/tap/v3/",
    "envoy/config/trace/v3/",
    "envoy/extensions/access_loggers/",
    "envoy/extensions/bootstrap/internal_listener/",
    "envoy/extensions/clusters/",
    "envoy/extensions/common/",
    "envoy/extensions/compression/",
    "envoy/extensions/filters/common/",
    "envoy/extensions/filters/http/",
    "envoy/extensions/filters/listener/",
    "envoy/extensions/filters/network/",
    "envoy/extensions/formatter/",
    "envoy/extensions/health_checkers/",
    "envoy/extensions/http/",
    "envoy/extensions/load_balancing_policies/",
    "envoy/extensions/matching/",
    "envoy/extensions/network/dns_resolver/",
    "envoy/extensions/rbac/",
    "envoy/extensions/request_id/",
    "envoy/extensions/resource_monitors/",
    "envoy/extensions/retry/",
    "envoy/extensions/router/",
    "envoy/extensions/stat_sinks/",
    "envoy/extensions/tracers/",
    "envoy/extensions/transport_sockets/",
    "envoy/extensions/upstreams/",
    "envoy/extensions/wasm/",
    "envoy/service/cluster/v3/",
    "envoy/service/discovery/v3/",
    "envoy/service/endpoint/v3/",
    "envoy/service/extension/v3/",
    "envoy/service/listener/v3/",
    "envoy/service/route/v3/",
    "envoy/service/runtime/v3/",
    "envoy/service/secret/v3/",
    "envoy/service/status/v3/",
    "envoy/type/",
    "xds/type/",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let path = package_dir("envoy-types")?.join(DESCRIPTORS);
    println!("cargo::rerun-if-changed={}", path.display());
    let bytes = fs::read(&path).map_err(|error| {
        format!(
            "read {}: {error}; the envoy-types package keeps its descriptor set there in the pinned version: \
             when the pin moves, find where it went",
            path.display()
        )
    })?;
    let all = FileDescriptorSet::decode(bytes.as_slice())?;
    let kept = closure(&all, ROOTS)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), kept.encode_to_vec())?;

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .btree_map(["."])
        .compile_well_known_types()
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        // The comments are 40,000 lines that rustdoc would parse as Rust.
        .disable_comments(["."])
        .include_file("api.rs");
    tonic_prost_build::configure()
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds_with_config(kept, config)?;
    Ok(())
}

/// Returns the folder of a dependency as cargo resolved it (registry, vendor folder, mirror).
fn package_dir(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let manifest = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
        .arg(&manifest)
        // Other platforms' packages would be downloaded only to be listed.
        .args(["--filter-platform", &env::var("HOST")?])
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata
        .get("packages")
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .find(|package| package.get("name").is_some_and(|found| found == name))
        .and_then(|package| package.get("manifest_path")?.as_str())
        .and_then(|path| Path::new(path).parent())
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("package {name} is not among the dependencies").into())
}

/// Returns the files under `roots` and everything they import, in the order of the set.
fn closure(all: &FileDescriptorSet, roots: &[&str]) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let by_name: BTreeMap<&str, &FileDescriptorProto> =
        all.file.iter().map(|file| (file.name(), file)).collect();
    let mut wanted = BTreeSet::new();
    let mut open = Vec::new();
    for root in roots {
        let before = open.len();
        open.extend(by_name.keys().copied().filter(|name| name.starts_with(root)));
        if open.len() == before {
            return Err(format!("the descriptor set has nothing under {root}").into());
        }
    }
    while let Some(name) = open.pop() {
        if wanted.insert(name.to_owned()) {
            let file = by_name.get(name).ok_or_else(|| format!("{name} is imported but not in the set"))?;
            open.extend(file.dependency.iter().map(String::as_str));
        }
    }
    Ok(FileDescriptorSet {
        file: all.file.iter().filter(|file| wanted.contains(file.name())).cloned().collect(),
    })
}
