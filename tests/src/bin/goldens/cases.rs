//! The cases of Istio's bootstrap test, with the inputs that the test passes besides the files of a case.

use serde_json::Value;

/// The environment variable with the annotations.
pub(crate) const ANNOTATIONS: &str = "ISTIO_METAJSON_ANNOTATIONS";

/// Flags of every case.
pub(crate) const FLAGS: [&str; 24] = [
    "sidecar",
    "--node-id",
    "sidecar~1.2.3.4~foo~bar",
    "--instance-ip",
    "10.3.3.3",
    "--instance-ip",
    "10.4.4.4",
    "--instance-ip",
    "10.5.5.5",
    "--instance-ip",
    "10.6.6.6",
    "--instance-ip",
    "10.4.4.4",
    "--pilot-san",
    "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account",
    "--version",
    "binary-1.0",
    "--outlierLogPath",
    "/dev/stdout",
    "--envoy-status-port=15021",
    "--prometheus-port=15090",
    "--xds=socket",
    "--log_target=stderr",
    "--memory-limit=0",
];
/// Environment of every case; a case may override it.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("ISTIO_METAJSON_LABELS", "{}"),
    ("WORKLOAD_IDENTITY_SOCKET_FILE", "test.sock"),
    // Also the default in Istio's agent, which its test bypasses.
    ("ENVOY_SKIP_DEPRECATED_LOGS", "false"),
];

/// A golden file that no case of the test uses.
pub(crate) const LEFT_OVER: &str = "legacy_stats_tags_regex";

const MAX_CONNECTIONS: &str = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS";

const RUNNING: [(&str, &str); 7] = [
    ("ISTIO_META_ISTIO_PROXY_SHA", "istio-proxy:sha"),
    ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
    ("ISTIO_META_ISTIO_VERSION", "release-3.1"),
    ("ISTIO_META_POD_NAME", "svc-0-0-0-6944fb884d-4pgx8"),
    ("POD_NAME", "svc-0-0-0-6944fb884d-4pgx8"),
    ("POD_NAMESPACE", "test"),
    ("INSTANCE_IP", "10.10.10.1"),
];
const LABELS: (&str, &str) = (
    "ISTIO_METAJSON_LABELS",
    r#"{"version": "v1alpha1", "app": "test", "istio-locality": "regionA.zoneB.sub_zoneC"}"#,
);
const INSECURE_PATH: (&str, &str) = ("istio.io/insecurepath", r#"{"paths":["/metrics","/live"]}"#);

const FLUSH: &str = "sidecar.istio.io/statsFlushInterval";
const EVICTION: &str = "sidecar.istio.io/statsEvictionInterval";
const STATS: [(&str, &str); 5] = [
    ("sidecar.istio.io/statsInclusionPrefixes", "prefix1,prefix2,http.{pod_ip}_"),
    (
        "sidecar.istio.io/statsInclusionSuffixes",
        "suffix1,suffix2,\
         upstream_rq_1xx,upstream_rq_2xx,upstream_rq_3xx,upstream_rq_4xx,upstream_rq_5xx,\
         upstream_rq_time,upstream_cx_tx_bytes_total,upstream_cx_rx_bytes_total,upstream_cx_total,\
         downstream_rq_1xx,downstream_rq_2xx,downstream_rq_3xx,downstream_rq_4xx,downstream_rq_5xx,\
         downstream_rq_time,downstream_cx_tx_bytes_total,downstream_cx_rx_bytes_total,downstream_cx_total",
    ),
    (
        "sidecar.istio.io/statsInclusionRegexps",
        r"http.[0-9]*\.[0-9]*\.[0-9]*\.[0-9]*_8080.downstream_rq_time",
    ),
    ("sidecar.istio.io/extraStatTags", "dlp_status,dlp_error"),
    (
        "sidecar.istio.io/statsHistogramBuckets",
        r#"{"istio":[1,5,10,50,100,500,1000,5000,10000],"envoy":[1,5,10,25,50,100,250,500,1000,2500,5000,10000]}"#,
    ),
];

/// A case of Istio's bootstrap test.
pub(crate) struct BootstrapCase {
    /// Name of the golden file.
    pub(crate) name: &'static str,
    /// Name of the `.proxycfg` file.
    pub(crate) proxy_config: &'static str,
    /// Environment in addition to that of every case.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    /// Annotations of the pod.
    pub(crate) annotations: Vec<(&'static str, &'static str)>,
}

/// Returns all cases.
pub(crate) fn all() -> Vec<BootstrapCase> {
    let plain =
        |name| BootstrapCase { name, proxy_config: name, environment: Vec::new(), annotations: Vec::new() };
    let with = |name, environment: &[_]| BootstrapCase { environment: environment.to_vec(), ..plain(name) };
    let annotated =
        |name, annotations: &[_]| BootstrapCase { annotations: annotations.to_vec(), ..plain(name) };
    let running = |name| BootstrapCase {
        environment: [&RUNNING[..], &[LABELS]].concat(),
        ..annotated(name, &[INSECURE_PATH])
    };
    vec![
        plain("xdsproxy"),
        plain("auth"),
        plain("authsds"),
        plain("default"),
        with("ambient", &[("ISTIO_META_ENABLE_HBONE", "true")]),
        plain("explicit_internal_address"),
        running("running"),
        running("runningsds"),
        plain("tracing_lightstep"),
        plain("tracing_zipkin"),
        plain("tracing_datadog"),
        plain("metrics_no_statsd"),
        plain("tracing_none"),
        plain("all"),
        annotated("stats_inclusion", &STATS),
        plain("tracing_tls"),
        plain("tracing_tls_custom_sni"),
        with(
            "lrs",
            &[
                ("COMPLIANCE_POLICY", "fips-140-2"),
                (
                    "ISTIO_META_LOAD_STATS_CONFIG_JSON",
                    r#"{"api_type": "GRPC", "transport_api_version": "V3"}"#,
                ),
            ],
        ),
        annotated("stats_flush_interval", &[(FLUSH, "10s")]),
        annotated("stats_eviction_interval", &[(EVICTION, "10s")]),
        annotated("invalid_stats_eviction_interval", &[(EVICTION, "11s")]),
        annotated("stats_interval", &[(FLUSH, "10s"), (EVICTION, "20s")]),
        with("global_downstream_max_connections_meta", &[(MAX_CONNECTIONS, "10000")]),
        plain("global_downstream_max_connections_runtime"),
        with("global_downstream_max_connections_both", &[(MAX_CONNECTIONS, "20000")]),
        plain("global_downstream_connection_settings"),
        with("global_downstream_connection_settings_with_meta", &[(MAX_CONNECTIONS, "10000")]),
        plain("stats_compression"),
        BootstrapCase {
            proxy_config: "default",
            ..with(
                "secure_metrics",
                &[("ENVOY_SECURE_METRICS_PORT", "15091"), ("ENVOY_SECURE_MERGED_METRICS_PORT", "15092")],
            )
        },
    ]
}

// === impl BootstrapCase ===

impl BootstrapCase {
    /// Applies the changes that Istio's test makes to the `ProxyConfig`. The test has no defaults, so fields that Istio sets by
    /// default and the file does not set are set to their zero values here.
    pub(crate) fn with_overrides_of_the_istio_test(&self, mut proxy_config: Value) -> Value {
        if let Value::Object(fields) = &mut proxy_config {
            fields.insert("config_path".into(), self.config_path().into());
            fields.entry("stat_name_length").or_insert_with(|| 0.into());
            fields.entry("control_plane_auth_policy").or_insert_with(|| "NONE".into());
            if let Some((name, value)) = self.environment.iter().find(|(name, _)| *name == MAX_CONNECTIONS) {
                fields.insert("proxy_metadata".into(), serde_json::json!({ *name: value }));
            }
        }
        proxy_config
    }

    /// Replaces paths of our bootstrap by those that Istio's test writes into the golden files.
    pub(crate) fn with_golden_paths(&self, bootstrap: &str) -> String {
        let folder = self.config_path();
        let quoted = |folder: &str, file: &str| format!("\"{folder}/{file}\"");
        bootstrap.replace(&quoted(&folder, "XDS"), &quoted("/tmp", "XDS")).replace(
            &quoted(&folder, "lightstep_access_token.txt"),
            &quoted("/test-path", "lightstep_access_token.txt"),
        )
    }

    fn config_path(&self) -> String {
        format!("/tmp/bootstrap/{}", self.proxy_config)
    }
}
