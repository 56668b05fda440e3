use std::fs;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use pilot_proto::node::StringBool;
use serde_json::json;

use super::address::IpFamily;
use super::env::Environment;
use super::fault::Faults;
use super::level::{Level, LogFormat};
use super::testing::load;
use super::{Config, LogFormatSource, Purpose};
use crate::cgroup::Limits;
use crate::cli::Overrides;

/// A `ProxyConfig` that needs no files.
const PLAINTEXT: (&str, &str) = ("PROXY_CONFIG", "discoveryAddress: istiod:15010");

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

/// In an empty container.
fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Faults> {
    load(flags, &environment(variables), tempfile::tempdir().unwrap().path(), Purpose::Show)
}

fn lines(faults: &Faults) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_pod_is_read_from_its_environment_and_its_mounts() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "etc/istio/config/mesh",
        "defaultConfig: {drainDuration: 9s, meshId: file, concurrency: 3}",
    );
    write(
        root.path(),
        "etc/istio/pod/labels",
        "app=\"reviews\"\npod-template-hash=\"abc\"\nistio-locality=\"r.z.s\"\n",
    );
    write(
        root.path(),
        "etc/istio/pod/annotations",
        "proxy.istio.io/config=\"meshId: annotation\"\nstatus.sidecar.istio.io/port=\"0\"\n\
         sidecar.istio.io/discoveryAddress=\"other:15010\"\n",
    );
    let variables = environment(&[
        (
            "PROXY_CONFIG",
            "{meshId: variable, discoveryAddress: 'istiod:15010', proxyMetadata: {ISTIO_META_A: p, ISTIO_META_B: p}}",
        ),
        ("INSTANCE_IP", "10.1.1.1"),
        ("POD_NAME", "reviews-1"),
        ("POD_NAMESPACE", "bookinfo"),
        ("SERVICE_ACCOUNT", "reviews"),
        ("ISTIO_META_B", "environment"),
        ("ISTIO_META_ENABLE_HBONE", "true"),
        ("ISTIO_METAJSON_LABELS", r#"{"version": "v1"}"#),
        ("ISTIO_METAJSON_X", r#"{"deep": {"a": 1}}"#),
    ]);
    let config = load(&["--domain", "bookinfo.svc.example"], &variables, root.path(), Purpose::Show).unwrap();
    assert_eq!(config.proxy.mesh_id, "annotation");
    assert_eq!(config.proxy.drain_duration, Some(Duration::from_secs(9)));
    assert_eq!(config.proxy.discovery_address, "other:15010");
    assert_eq!(config.status_port(), None);
    assert_eq!(config.envoy.concurrency.threads.get(), 3);
    assert_eq!(config.node.id.to_string(), "sidecar~10.1.1.1~reviews-1.bookinfo~bookinfo.svc.example");
    assert_eq!(config.node.cluster, "reviews.bookinfo");
    let locality = &config.node.locality;
    assert_eq!([&locality.region, &locality.zone, &locality.sub_zone], ["r", "z", "s"]);
    let metadata = &config.node.metadata;
    assert_eq!(json!(metadata.labels), json!({"app": "reviews", "version": "v1", "istio-locality": "r/z/s"}));
    assert_eq!(json!(metadata.static_labels), json!({"version": "v1"}));
    assert_eq!(metadata.instance_ips.0, ["10.1.1.1", "10.9.9.9"]);
    assert_eq!(metadata.metadata_discovery, Some(StringBool(true)));
    assert_eq!(metadata.pilot_san, ["other"]);
    let raw = |key: &str| metadata.raw.get(key).cloned();
    assert_eq!((raw("A"), raw("B")), (Some(json!("p")), Some(json!("environment"))));
    assert_eq!((raw("deep"), raw("version")), (Some(json!({"a": 1})), Some(json!("v1"))));
}

#[test]
fn threads_are_always_told_and_node_metadata_says_what_the_user_did() {
    for (flag, proxy_config, limit, threads, told) in [
        ("0", "", "", 1, None),
        ("0", "", "2", 2, Some(2)),
        ("0", "concurrency: 0", "2", 1, Some(0)),
        ("0", "concurrency: 5", "2", 5, Some(5)),
        ("7", "concurrency: 5", "2", 7, Some(7)),
    ] {
        let proxy_config = format!("discoveryAddress: 'istiod:15010'\n{proxy_config}");
        let variables = [("PROXY_CONFIG", proxy_config.as_str()), ("ISTIO_CPU_LIMIT", limit)];
        let config = read(&["--concurrency", flag], &variables).unwrap();
        let said = (config.envoy.concurrency.threads.get(), config.proxy.concurrency);
        assert_eq!(said, (threads, told), "{flag} {proxy_config} {limit}");
    }
}

#[test]
fn the_heap_is_limited_unless_the_user_does_it() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "own.yaml", "overloadManager: {refreshInterval: 1s}");
    write(root.path(), "other.yaml", "admin: {}");
    let heap = |flags: &[&str], overlay| {
        let variables = environment(&[PLAINTEXT, ("ISTIO_BOOTSTRAP_OVERRIDE", overlay)]);
        load(flags, &variables, root.path(), Purpose::Show).unwrap().envoy.max_heap.map(u64::from)
    };
    let limit = ["--memory-limit", "134217728"];
    assert_eq!(heap(&limit, "other.yaml"), Some(88 << 20));
    assert_eq!(heap(&limit, "own.yaml"), None);
    assert_eq!(heap(&[], "other.yaml"), None);
}

#[test]
fn a_machine_is_asked_only_by_who_describes_no_other() {
    let limits = Limits { cores: NonZeroU32::MIN, quota: None, memory: NonZeroU64::new(5) };
    for (overrides, memory) in [
        (Overrides::default(), NonZeroU64::new(5)),
        (Overrides { memory_limit: Some(7), ..Overrides::default() }, NonZeroU64::new(7)),
        (Overrides { memory_limit: Some(0), ..Overrides::default() }, None),
        (Overrides { version: Some("1".into()), ..Overrides::default() }, None),
    ] {
        assert_eq!(overrides.memory_limit(&limits), memory);
    }
}

#[test]
fn a_log_format_of_the_users_is_left_to_them() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "format.yaml", "application_log_config: {logFormat: {text_format: '%v'}}");
    write(root.path(), "none.yaml", "application_log_config: {log_format: null}");
    for (variable, file, form) in [
        ("ISTIO_BOOTSTRAP_OVERRIDE", "format.yaml", LogFormatSource::Users),
        ("ISTIO_BOOTSTRAP", "format.yaml", LogFormatSource::Users),
        ("ISTIO_BOOTSTRAP_OVERRIDE", "none.yaml", LogFormatSource::Agents),
    ] {
        let variables = environment(&[PLAINTEXT, (variable, file)]);
        let config = load(&[], &variables, root.path(), Purpose::Show).unwrap();
        assert_eq!(config.envoy.log_form, form, "{variable} {file}");
    }
}

#[test]
fn every_setting_of_the_drain_reaches_its_bounds() {
    let check = |flags: &[&str], variables: &[(&str, &str)], bounds: (Option<u64>, u64)| {
        let drain = read(flags, variables).unwrap().drain;
        let minimum = drain.minimum.map(|minimum| minimum.as_secs());
        assert_eq!((minimum, drain.deadline.as_secs()), bounds, "{flags:?} {variables:?}");
    };
    check(&[], &[PLAINTEXT], (None, 5));
    check(&["--terminationGracePeriod", "1m"], &[PLAINTEXT], (None, 57));
    let older = ("TERMINATION_DRAIN_DURATION_SECONDS", "20");
    check(&[], &[PLAINTEXT, older], (None, 20));
    let minimum = ("MINIMUM_DRAIN_DURATION", "1s");
    check(&[], &[PLAINTEXT, minimum], (Some(1), 5));
    let zero = ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true");
    check(&[], &[PLAINTEXT, zero], (Some(5), 27));
    check(&["--terminationGracePeriod", "1m"], &[PLAINTEXT, zero, minimum], (Some(1), 57));
}

#[test]
fn flags_of_the_log_are_read() {
    let log = read(&["--log_as_json", "--log_output_level", "xds:debug"], &[PLAINTEXT]).unwrap().log;
    assert_eq!((log.format, log.levels.scopes["xds"]), (LogFormat::Json, Level::Debug));
    assert_eq!(read(&["--log_as_json=false"], &[PLAINTEXT]).unwrap().log.format, LogFormat::Text);
}

#[test]
fn the_family_and_the_id_follow_the_addresses() {
    let config = read(&["--instance-ip", "fd00::1"], &[PLAINTEXT]).unwrap();
    assert_eq!((config.family, config.node.id.ip.as_str()), (IpFamily::V6, "fd00::1"));
    assert_eq!(read(&[], &[PLAINTEXT]).unwrap().node.id.ip, "10.9.9.9");
}

#[test]
fn what_is_odd_is_a_warning() {
    let variables = [("PROXY_CONFIG", "{discoveryAddress: 'istiod:15010', connectTimeout: 1s}")];
    let config = read(&["--stsPort", "15463", "--profiling=false"], &variables).unwrap();
    assert_eq!(
        config.warnings,
        ["--stsPort has no effect", "ProxyConfig: unknown field connectTimeout is ignored"]
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "etc/istio/config/mesh", "defaultConfig: {proxyAdminPort: http}\ntrustDomain: 3\n");
    write(root.path(), "etc/istio/pod/annotations", "status.sidecar.istio.io/port=\"x\"\n");
    let variables = environment(&[
        ("PROXY_CONFIG", "a: [1"),
        ("ENVOY_STATUS_PORT", "x"),
        ("ISTIO_METAJSON_X", "[]"),
        ("ISTIO_META_INTERCEPTION_MODE", "MAGIC"),
        ("ISTIO_BOOTSTRAP_OVERRIDE", "none.yaml"),
    ]);
    let flags = ["--proxyLogLevel", "loud", "--log_output_level", "loud"];
    let faults = load(&flags, &variables, root.path(), Purpose::Run).unwrap_err();
    let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "ENVOY_STATUS_PORT",
            "./etc/istio/config/mesh",
            "PROXY_CONFIG",
            "./etc/istio/config/mesh: defaultConfig",
            "status.sidecar.istio.io/port",
            "ISTIO_METAJSON_X",
            "ISTIO_META_INTERCEPTION_MODE",
            "--proxyLogLevel",
            "none.yaml",
            "--log_output_level",
        ]
    );
    assert_eq!(faults.exit_code(), 64);
}

#[test]
fn proxy_config_is_checked() {
    for (proxy_config, line) in [
        ("configPath: ''", "ProxyConfig: configPath: is empty"),
        ("binaryPath: ''", "ProxyConfig: binaryPath: is empty"),
        ("proxyAdminPort: 0", "ProxyConfig: proxyAdminPort: is 0"),
        ("drainDuration: 0s", "ProxyConfig: drainDuration: is not a whole number of seconds above 0"),
        ("drainDuration: 1.5s", "ProxyConfig: drainDuration: is not a whole number of seconds above 0"),
        ("statsdUdpAddress: statsd", "ProxyConfig: statsdUdpAddress: \"statsd\" is not host:port"),
        ("tracing: {zipkin: {}}", "ProxyConfig: tracing.zipkin.address: \"\" is not host:port"),
        ("tracing: {lightstep: {address: 'a:1'}}", "ProxyConfig: tracing.lightstep.accessToken: is empty"),
        (
            "tracing: {stackdriver: {}}",
            "ProxyConfig: tracing.stackdriver: needs Google's metadata server, which this agent does not ask",
        ),
        (
            "envoyMetricsService: {address: a}",
            "ProxyConfig: envoyMetricsService.address: \"a\" is not host:port",
        ),
    ] {
        let faults =
            read(&[], &[("PROXY_CONFIG", &format!("discoveryAddress: 'istiod:15010'\n{proxy_config}"))]);
        assert_eq!(lines(&faults.unwrap_err()), [line], "{proxy_config}");
    }
}

#[test]
fn the_binary_must_be_there_to_be_run() {
    let root = tempfile::tempdir().unwrap();
    let variables =
        environment(&[("PROXY_CONFIG", "{discoveryAddress: 'istiod:15010', binaryPath: ./envoy}")]);
    let run = || load(&[], &variables, root.path(), Purpose::Run).map_err(|faults| faults.exit_code());
    assert_eq!(run(), Err(127));
    write(root.path(), "envoy", "");
    fs::set_permissions(root.path().join("envoy"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(), Err(126));
    fs::set_permissions(root.path().join("envoy"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run().is_ok());
    assert!(load(&[], &variables, Path::new("/nonexistent"), Purpose::Show).is_ok());
}

#[test]
fn a_bootstrap_of_the_users_own_is_taken_whole_or_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "own.yaml", "node: {id: mine}\n");
    write(root.path(), "template.json", r#"{"node": {"id": "{{ .nodeID }}"}}"#);
    write(root.path(), "list.yaml", "[1]");
    let run = |flags: &[&str], variables: &[(&str, &str)]| {
        let variables = environment(&[&[PLAINTEXT], variables].concat());
        load(flags, &variables, root.path(), Purpose::Show)
    };
    let own = Some(json!({"node": {"id": "mine"}}));
    assert_eq!(run(&[], &[("ISTIO_BOOTSTRAP", "own.yaml")]).unwrap().envoy.custom_bootstrap, own);
    assert_eq!(run(&["--templateFile", "own.yaml"], &[]).unwrap().envoy.custom_bootstrap, own);
    for file in ["template.json", "list.yaml", "none.json"] {
        let faults = run(&["--templateFile", "own.yaml"], &[("ISTIO_BOOTSTRAP", file)]).unwrap_err();
        assert!(lines(&faults)[0].starts_with(file), "{faults:?}");
    }
}

#[test]
fn the_overlay_knows_the_nodes_address() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "overlay.yaml", "a: '$(HOST_IP):1'\nb: '[$(HOST_IP)]:2'\n");
    for (host_ip, overlay) in [
        ("10.0.0.1", json!({"a": "10.0.0.1:1", "b": "[10.0.0.1]:2"})),
        ("fd00::1", json!({"a": "[fd00::1]:1", "b": "[fd00::1]:2"})),
    ] {
        let variables =
            environment(&[PLAINTEXT, ("ISTIO_BOOTSTRAP_OVERRIDE", "overlay.yaml"), ("HOST_IP", host_ip)]);
        let config = load(&[], &variables, root.path(), Purpose::Show).unwrap();
        let read: serde_json::Value = serde_json::from_str(&config.envoy.overlay.unwrap()).unwrap();
        assert_eq!(read, overlay);
    }
}
