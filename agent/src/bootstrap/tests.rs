//! Golden bootstraps: `testdata/bootstrap/<case>/` plays a container's root, with
//!
//! - `env`: lines of `NAME=value`; `flags`: a flag of `pilot-agent bootstrap` on each line;
//! - `proxyconfig.yaml`: `PROXY_CONFIG`; `mesh`, `annotations`, `labels`: the mounted files;
//! - anything else: a file beside the agent.
//!
//! `bootstrap.json` and `argv` are what must come of it. `UPDATE_EXPECT=1` writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pilot_proto::envoy::config::bootstrap::v3::Bootstrap;
use serde_json::Value;

use super::argv::{HotRestartFlags, LaunchArgs, argv, parent_shutdown};
use super::render;
use crate::config::env::Environment;
use crate::config::testing::load;
use crate::config::xds::{Roots, XdsSecurity, XdsTls, XdsTransport};
use crate::config::{Config, Purpose};

/// Not of the outer world: the release may change, the goldens need not.
const FIXED: [&str; 2] = ["--version", "golden"];

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The case as a container.
fn config(case: &Path) -> Config {
    let root = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(case).unwrap() {
        let entry = entry.unwrap().path();
        let mounted = match entry.file_name().unwrap().to_str().unwrap() {
            "bootstrap.json" | "argv" | "env" | "flags" | "proxyconfig.yaml" => continue,
            "mesh" => "etc/istio/config/mesh",
            "annotations" => "etc/istio/pod/annotations",
            "labels" => "etc/istio/pod/labels",
            other => other,
        };
        let mounted = root.path().join(mounted);
        fs::create_dir_all(mounted.parent().unwrap()).unwrap();
        fs::copy(&entry, mounted).unwrap();
    }
    let env = text(&case.join("env"));
    let variables = env.lines().map(|line| line.split_once('=').unwrap());
    let proxy_config = text(&case.join("proxyconfig.yaml"));
    let environment: Environment = variables.chain([("PROXY_CONFIG", proxy_config.as_str())]).collect();
    let flags = text(&case.join("flags"));
    let flags: Vec<&str> = flags.lines().chain(FIXED).collect();
    load(&flags, &environment, root.path(), Purpose::Show)
        .unwrap_or_else(|faults| panic!("{}: {:?}", case.display(), faults))
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bootstrap");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn case(name: &str) -> Config {
    config(&cases().into_iter().find(|folder| folder.ends_with(name)).unwrap())
}

/// With the messages inside `TypedStruct` in their own place, so that the descriptors check them too, and
/// without Istio's own extension, which they do not know.
fn untyped(mut bootstrap: Value) -> Value {
    let Some(extensions) = bootstrap.get_mut("bootstrap_extensions").and_then(Value::as_array_mut) else {
        return bootstrap;
    };
    extensions.retain(|extension| extension["name"] != "metadata_discovery");
    for extension in extensions {
        let typed = extension["typed_config"].clone();
        extension["typed_config"] = typed["value"].clone();
        extension["typed_config"]["@type"] = typed["type_url"].clone();
    }
    bootstrap
}

fn check(file: &Path, actual: &str) {
    #[expect(clippy::disallowed_methods, reason = "asked by a person at a keyboard, not by the agent")]
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    if update {
        fs::write(file, actual).unwrap();
    }
    assert!(text(file) == actual, "{} differs; see what UPDATE_EXPECT=1 makes of it", file.display());
}

#[test]
fn each_case_renders_its_golden_bootstrap() {
    let cases = cases();
    assert!(cases.len() >= 9, "{cases:?}");
    for case in cases {
        let config = config(&case);
        let rendered = render(&config);
        check(&case.join("bootstrap.json"), &rendered.json);
        let launch =
            LaunchArgs { bootstrap: Path::new("envoy-rev0.json"), hot_restart: HotRestartFlags::Off };
        let lines: Vec<_> =
            argv(&config, launch).iter().map(|argument| argument.display().to_string()).collect();
        check(&case.join("argv"), &(lines.join("\n") + "\n"));

        let json = untyped(serde_json::from_str(&rendered.json).unwrap());
        pilot_proto::proto3_json::from_value::<Bootstrap>(&json)
            .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    }
}

#[test]
fn the_top_level_is_in_istios_order() {
    let json = render(&case("collectors")).json;
    let top: Vec<_> = json.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
    assert_eq!(
        top,
        [
            "node",
            "layered_runtime",
            "bootstrap_extensions",
            "stats_config",
            "admin",
            "dynamic_resources",
            "static_resources",
            "overload_manager",
            "tracing",
            "stats_sinks",
            "cluster_manager",
            "deferred_stat_options",
        ]
    );
}

#[test]
fn a_hot_restart_names_its_epoch_and_its_private_sockets() {
    let config = case("default");
    let (socket_path, parent_shutdown) = (Path::new("/run/pilot/envoy"), Duration::from_mins(1));
    let on = HotRestartFlags::On { base_id: 7, socket_path, epoch: 3, parent_shutdown };
    let launch = LaunchArgs { bootstrap: Path::new("b.json"), hot_restart: on };
    let argv: Vec<_> = argv(&config, launch).iter().map(|argument| argument.display().to_string()).collect();
    let all = argv.join(" ");
    for part in [
        "-c b.json",
        "--drain-time-s 45 --drain-strategy immediate",
        "--restart-epoch 3 --parent-shutdown-time-s 60",
        "--base-id 7 --socket-path /run/pilot/envoy --socket-mode 600",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains("--disable-hot-restart"), "{all}");
}

#[test]
fn an_envoy_that_has_handed_over_gets_the_time_the_user_gives_it() {
    let mut config = case("default");
    for (given, expected) in [(None, 60), (Some(10), 10), (Some(0), 1)] {
        config.proxy.parent_shutdown_duration = given.map(Duration::from_secs);
        assert_eq!(parent_shutdown(&config), Duration::from_secs(expected), "{given:?}");
    }
}

#[test]
fn a_proxy_with_a_certificate_shows_it_and_watches_it() {
    let mut config = case("default");
    let names = ["istiod.svc", "spiffe://cluster.local/ns/a/sa/b", "10.0.0.1"];
    config.xds = XdsTransport::Direct {
        address: "10.0.0.1:15012".parse().unwrap(),
        security: XdsSecurity::Tls(XdsTls {
            roots: Roots::System,
            certificate: Some(("./etc/certs/cert-chain.pem".into(), "./etc/certs/key.pem".into())),
            names: names.map(Into::into).into(),
        }),
    };
    let json: Value = serde_json::from_str(&render(&config).json).unwrap();
    pilot_proto::proto3_json::from_value::<Bootstrap>(&untyped(json.clone())).unwrap();
    let clusters = json["static_resources"]["clusters"].as_array().unwrap();
    let xds = clusters.iter().find(|cluster| cluster["name"] == "xds-grpc").unwrap();
    assert_eq!(xds["type"], "STATIC");
    let tls = &xds["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], "istiod.svc");
    let common = &tls["common_tls_context"];
    assert_eq!(common["tls_certificates"][0]["watched_directory"]["path"], "./etc/certs");
    let verified = common["validation_context"]["match_typed_subject_alt_names"].as_array().unwrap();
    let types: Vec<_> = verified.iter().map(|name| name["san_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["DNS", "URI", "IP_ADDRESS"]);
}

#[test]
fn lightsteps_token_goes_to_a_file_of_its_own() {
    let mut config = case("default");
    config.proxy = serde_json::from_value(serde_json::json!({
        "configPath": "./p", "tracing": {"lightstep": {"address": "l:1", "accessToken": "secret"}},
    }))
    .unwrap();
    let rendered = render(&config);
    let [file] = rendered.files.as_slice() else { panic!("{:?}", rendered.files) };
    assert_eq!(
        (file.path.to_str(), file.contents.as_str()),
        (Some("./p/lightstep_access_token.txt"), "secret")
    );
    let json: Value = serde_json::from_str(&rendered.json).unwrap();
    let tracer = &json["tracing"]["http"]["typed_config"];
    assert_eq!(tracer["access_token_file"], "./p/lightstep_access_token.txt");
    assert!(!json["tracing"].to_string().contains("\"secret\""));
}

#[test]
fn what_cannot_be_done_is_a_warning() {
    let mut config = case("default");
    let annotations = &mut config.node.metadata.annotations;
    annotations.insert("sidecar.istio.io/statsFlushInterval".into(), "soon".into());
    annotations.insert("sidecar.istio.io/statsEvictionInterval".into(), "7s".into());
    annotations.insert("sidecar.istio.io/statsHistogramBuckets".into(), "[]".into());
    config.node.metadata.raw.insert("LOAD_STATS_CONFIG_JSON".into(), "{".into());
    let rendered = render(&config);
    assert_eq!(rendered.warnings.len(), 4, "{:?}", rendered.warnings);
    let json: Value = serde_json::from_str(&rendered.json).unwrap();
    for field in ["stats_flush_interval", "stats_eviction_interval", "cluster_manager"] {
        assert_eq!(json.get(field), None, "{field}");
    }
}
