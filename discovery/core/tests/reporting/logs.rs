//! Access logs: providers, conditions, formats.

use pilot_core::model::Proxy;
use pilot_proto::ResourceType::Listener;
use serde_json::{Value, json};

use crate::fixture::*;
use crate::{HTTP, TCP, client, filters, listeners, mesh_of, telemetry};

/// Formats access logs: path or cluster, and the filter.
fn short(logs: &Value) -> String {
    let one = |log: &Value| {
        let config = &log["typed_config"];
        let cluster = texts(config, "cluster_name").into_iter().next().map(|name| name.to_string());
        let place = config["path"].as_str().map(str::to_owned).or(cluster).unwrap();
        let filter = texts(&log["filter"], "expression").into_iter().next();
        let unmatched = log["filter"].to_string().contains("\"NR\"");
        let filter = filter.map(|expression| format!("({expression})")).unwrap_or_default();
        format!("{place}{filter}{}", if unmatched { "/NR" } else { "" })
    };
    logs.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(" ")
}

/// Checks the access logs of outbound HTTP and TCP, inbound traffic, and unmatched connections.
fn check_logs(mesh: &Mesh, proxy: &Proxy, outbound: &str, inbound: &str) {
    let found = listeners(&mesh.push(), proxy);
    let (virtual_in, virtual_out) = (&found["virtualInbound"], &found["virtualOutbound"]);
    for manager in filters(&found["0.0.0.0_80"], HTTP) {
        assert_eq!(short(&manager["access_log"]), outbound);
    }
    for tcp in filters(virtual_out, TCP).into_iter().chain(filters(&found["10.0.0.1_81"], TCP)) {
        assert_eq!(short(&tcp["access_log"]), outbound);
    }
    for filter in filters(virtual_in, HTTP).into_iter().chain(filters(virtual_in, TCP)) {
        assert_eq!(short(&filter["access_log"]), inbound);
    }
    let unmatched =
        |logs: &str| logs.split_whitespace().map(|log| format!("{log}/NR")).collect::<Vec<_>>().join(" ");
    assert_eq!(short(&virtual_out["access_log"]), unmatched(outbound));
    assert_eq!(short(&virtual_in["access_log"]), unmatched(inbound));
}

#[test]
fn the_mesh_logs_where_no_object_says_anything() {
    check_logs(&mesh_of("", ""), &client(), "", "");
    check_logs(&mesh_of("accessLogFile: /a", ""), &client(), "/a", "/a");
    let defaults = "accessLogFile: /a\ndefaultProviders: {accessLogging: [file, envoy]}";
    check_logs(&mesh_of(defaults, ""), &client(), "/dev/stdout /log", "/dev/stdout /log");
    // Missing providers are ignored.
    let unknown = "accessLogFile: /a\ndefaultProviders: {accessLogging: [nobody, zipkin]}";
    check_logs(&mesh_of(unknown, ""), &client(), "/a", "/a");
    let push = mesh_of(unknown, "").push();
    let report = generate(&push, &client(), Listener, None).report;
    let said: Vec<String> = report.rejected.iter().map(ToString::to_string).collect();
    assert!(
        said.iter()
            .any(|line| line.contains("extension provider nobody") && line.contains("no such provider")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|line| line.contains("extension provider zipkin") && line.contains("kind")),
        "{said:?}"
    );
}

#[test]
fn objects_of_mesh_namespace_and_workload_overrule_each_other() {
    let of_mesh = telemetry("istio-system/mesh", "{accessLogging: [{providers: [{name: file}]}]}");
    let of_namespace = telemetry("default/space", "{accessLogging: [{providers: [{name: fields}]}]}");
    let of_workload = telemetry(
        "default/work",
        "{selector: {matchLabels: {app: web}}, accessLogging: [{match: {mode: SERVER}, disabled: true}]}",
    );
    let config = "accessLogFile: /a";
    check_logs(&mesh_of(config, &of_mesh), &client(), "/log", "/log");
    let both = format!("{of_mesh}{of_namespace}");
    check_logs(&mesh_of(config, &both), &client(), "/dev/stdout", "/dev/stdout");
    let all = format!("{both}{of_workload}");
    check_logs(&mesh_of(config, &all), &client(), "/dev/stdout", "");
    // Other proxies have none of it.
    check_logs(&mesh_of(config, &all), &sidecar("10.1.0.1", "shop"), "/log", "/log");
    let mut other = client();
    other.metadata.labels.clear();
    check_logs(&mesh_of(config, &all), &other, "/dev/stdout", "/dev/stdout");
    // Of two for the whole namespace the older one has precedence.
    let younger = telemetry("default/also", "{accessLogging: [{providers: [{name: file}]}]}");
    check_logs(
        &mesh_of(config, &format!("{of_namespace}{younger}")),
        &client(),
        "/dev/stdout",
        "/dev/stdout",
    );
}

#[test]
fn an_expression_decides_what_is_logged() {
    let object = telemetry(
        "istio-system/mesh",
        "{accessLogging: [{providers: [{name: file}], filter: {expression: 'response.code >= 400'}}]}",
    );
    let filtered = "/log(response.code >= 400)";
    let found = listeners(&mesh_of("", &object).push(), &client());
    assert_eq!(short(&filters(&found["0.0.0.0_80"], HTTP)[0]["access_log"]), filtered);
    assert_eq!(short(&filters(&found["virtualInbound"], TCP)[0]["access_log"]), filtered);
    // Unmatched connections too.
    let unmatched = &found["virtualInbound"]["access_log"];
    assert_eq!(short(unmatched), format!("{filtered}/NR"));
    assert_eq!(unmatched[0]["filter"]["and_filter"]["filters"].as_array().unwrap().len(), 2);
}

#[test]
fn a_gateway_logs_as_a_client() {
    let object = telemetry(
        "istio-system/mesh",
        "{accessLogging: [{providers: [{name: file}], match: {mode: CLIENT}}, {providers: [{name: fields}], match: {mode: SERVER}}]}",
    );
    let gateway = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {servers: [{port: {number: 8080, protocol: HTTP, name: http}, hosts: ['*']}]}\n";
    let mesh = mesh_of("", &format!("{object}{gateway}"));
    let found = listeners(&mesh.push(), &mesh.gateway("default", "istio=edge").0.proxy);
    assert_eq!(short(&found["0.0.0.0_8080"]["access_log"]), "/log/NR");
    assert_eq!(short(&filters(&found["0.0.0.0_8080"], HTTP)[0]["access_log"]), "/log");
    // The gateway of a Kubernetes `Gateway` is selected by its name.
    let targeted = telemetry(
        "default/target",
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}], accessLogging: [{disabled: true}]}",
    );
    let mesh = mesh.and(&targeted);
    for (labels, expected) in [
        ("gateway.networking.k8s.io/gateway-name=edge", ""),
        ("gateway.networking.k8s.io/gateway-name=other", "/log"),
        ("app=x", "/log"),
    ] {
        let found = listeners(&mesh.push(), &mesh.gateway("default", labels).0.proxy);
        assert_eq!(short(&filters(&found["0.0.0.0_8080"], HTTP)[0]["access_log"]), expected, "{labels}");
    }
}

/// Returns the access log of outbound HTTP.
fn log_of(config: &str, objects: &str) -> Value {
    let found = listeners(&mesh_of(config, objects).push(), &client());
    filters(&found["0.0.0.0_80"], HTTP)[0]["access_log"][0]["typed_config"].clone()
}

#[test]
fn lines_are_written_as_the_mesh_says() {
    let text = |config: &str| {
        let log = log_of(config, "");
        log["log_format"]["text_format_source"]["inline_string"].as_str().unwrap().to_owned()
    };
    assert!(text("accessLogFile: /a").ends_with("%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"));
    // A line ends with a line break.
    assert_eq!(text("accessLogFile: /a\naccessLogFormat: '%PROTOCOL%'"), "%PROTOCOL%\n");
    assert_eq!(text("accessLogFile: /a\naccessLogFormat: \"x\\n\""), "x\n");

    let json = |config: &str| log_of(config, "")["log_format"]["json_format"].clone();
    let fields = json("accessLogFile: /a\naccessLogEncoding: JSON");
    assert_eq!(fields.as_object().unwrap().len(), 24);
    assert_eq!(fields["upstream_cluster"], "%UPSTREAM_CLUSTER_RAW%");
    let own = r#"'{"p": "%PROTOCOL%", "n": 1, "deep": {"x": "y"}, "gone": null}'"#;
    let found = json(&format!("accessLogFile: /a\naccessLogEncoding: JSON\naccessLogFormat: {own}"));
    assert_eq!(found, json!({"p": "%PROTOCOL%", "n": 1.0, "deep": {"x": "y"}}));
    // A format that is not an object is replaced by Istio's.
    assert_eq!(json("accessLogFile: /a\naccessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'"), fields);
    // Istio's own provider has the format of the mesh, others have their own.
    let of = |name: &str, config: &str| {
        log_of(
            config,
            &telemetry(
                "istio-system/mesh",
                &format!("{{accessLogging: [{{providers: [{{name: {name}}}]}}]}}"),
            ),
        )
    };
    assert_eq!(of("envoy", "accessLogEncoding: JSON")["log_format"]["json_format"], fields);
    assert_eq!(
        of("file", "accessLogEncoding: JSON")["log_format"]["text_format_source"]["inline_string"],
        "%PROTOCOL%\n"
    );
    let own = of("fields", "");
    assert_eq!(
        (&own["path"], &own["log_format"]["omit_empty_values"]),
        (&json!("/dev/stdout"), &json!(true))
    );
    assert_eq!(own["log_format"]["formatters"][0]["name"], "envoy.formatter.req_without_query");
}

#[test]
fn access_is_logged_to_services() {
    let of = |name: &str| {
        log_of(
            "",
            &telemetry(
                "istio-system/mesh",
                &format!("{{accessLogging: [{{providers: [{{name: {name}}}]}}]}}"),
            ),
        )
    };
    let cluster = "outbound|9000||logs.infra.svc.cluster.local";
    let http = of("http");
    assert_eq!(
        http["common_config"]["grpc_service"]["envoy_grpc"],
        json!({"cluster_name": cluster, "authority": "logs.infra.svc.cluster.local"})
    );
    assert_eq!(http["common_config"]["log_name"], "http_envoy_accesslog");
    assert_eq!(http["additional_request_headers_to_log"], json!(["x"]));
    assert_eq!(of("tcp")["common_config"]["log_name"], "mine");
    let otel = of("otel");
    assert_eq!(otel["attributes"]["values"][0]["key"], "a");
    assert_eq!(otel["common_config"]["log_name"], "otel_envoy_accesslog");
}

#[test]
fn what_a_proxy_does_not_see_is_reported_and_not_to() {
    // Envoy would reject a listener that logs to a missing cluster.
    let blind = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: default}\nspec: {egress: [{hosts: ['./*']}]}\n";
    let object = telemetry(
        "istio-system/mesh",
        "{accessLogging: [{providers: [{name: http}]}], tracing: [{providers: [{name: zipkin}]}]}",
    );
    let push = mesh_of("", &format!("{blind}{object}")).push();
    let found = listeners(&push, &client());
    let manager = filters(&found["0.0.0.0_80"], HTTP)[0];
    assert_eq!((manager.get("access_log"), manager.get("tracing")), (None, None));
    let report = generate(&push, &client(), Listener, None).report;
    let said = |name: &str| report.rejected.iter().filter(|it| it.subject.ends_with(name)).count();
    assert!(said("http") > 0 && said("zipkin") > 0, "{report:?}");
}

#[test]
fn the_log_service_of_the_bootstrap_is_used_where_there_is_one() {
    let mesh = mesh_of("enableEnvoyAccessLogService: true", "");
    check_logs(&mesh, &client(), "", "");
    let mut proxy = client();
    proxy.metadata.proxy_config = Some(json!({"envoyAccessLogService": {"address": "als:1"}}));
    check_logs(&mesh, &proxy, "envoy_accesslog_service", "envoy_accesslog_service");
    let found = listeners(&mesh.push(), &proxy);
    let name =
        |logs: &Value| logs[0]["typed_config"]["common_config"]["log_name"].as_str().unwrap().to_owned();
    assert_eq!(name(&found["virtualInbound"]["access_log"]), "listener_envoy_accesslog");
    assert_eq!(name(&filters(&found["0.0.0.0_80"], HTTP)[0]["access_log"]), "http_envoy_accesslog");
    assert_eq!(name(&filters(&found["virtualOutbound"], TCP)[0]["access_log"]), "tcp_envoy_accesslog");
}

#[test]
fn what_nobody_takes_is_not_logged_where_the_mesh_says_so() {
    let mesh = mesh_of("accessLogFile: /a\ndisableEnvoyListenerLog: true", "");
    let found = listeners(&mesh.push(), &client());
    assert_eq!(found["virtualInbound"].get("access_log"), None);
    assert_eq!(short(&filters(&found["0.0.0.0_80"], HTTP)[0]["access_log"]), "/a");
}
