//! The cases of Istio's bootstrap test, and what that test gives its code besides the files of a case.

use serde_json::Value;

/// The annotations as the environment has them.
pub(crate) const ANNOTATIONS: &str = "ISTIO_METAJSON_ANNOTATIONS";

/// What every case is given.
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
/// The same of the environment; a case may say otherwise.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("ISTIO_METAJSON_LABELS", "{}"),
    ("WORKLOAD_IDENTITY_SOCKET_FILE", "test.sock"),
    // On by default in Istio's agent too, which its test goes past.
    ("ENVOY_SKIP_DEPRECATED_LOGS", "false"),
];

/// A golden that no case of the test uses.
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

/// A case.
pub(crate) struct BootstrapCase {
    /// Of its golden.
    pub(crate) name: &'static str,
    /// Whose `.proxycfg` it takes.
    pub(crate) proxy_config: &'static str,
    /// Besides what every case has.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    /// The pod's.
    pub(crate) annotations: Vec<(&'static str, &'static str)>,
}

/// All of them.
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
    /// What Istio's test changes in the `ProxyConfig`. There are no defaults below it there, so that what Istio has by default and
    /// the file does not say is said to be nothing.
    pub(crate) fn with_what_istios_test_sets(&self, mut proxy_config: Value) -> Value {
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

    /// Our bootstrap with the paths that Istio's test writes into the goldens.
    pub(crate) fn in_places_of_golden(&self, bootstrap: &str) -> String {
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
