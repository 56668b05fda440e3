//! Listeners, listener filters, filter chains.

use super::*;

/// A listener that passes bytes on to a cluster named after it.
fn listener(name: &str, address: &str, more: &str) -> String {
    format!(
        "{{name: {name}, address: {{socket_address: {{{address}}}}}, {more}, filter_chains: [{{filters: [{}]}}]}}",
        tcp(name)
    )
}

fn tcp(cluster: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: x, cluster: {cluster}}}}}"
    )
}

#[test]
fn a_connection_is_taken_by_the_nearest_listener() {
    let virtual_outbound = listener(
        "virtualOutbound",
        "address: 0.0.0.0, port_value: 15001",
        "use_original_dst: true, traffic_direction: OUTBOUND",
    );
    let virtual_inbound = listener(
        "virtualInbound",
        "address: 0.0.0.0, port_value: 15006",
        "traffic_direction: INBOUND, listener_filters: [{name: envoy.filters.listener.original_dst}]",
    );
    let unbound = "bind_to_port: false";
    let told = told(&format!(
        "{{listeners: [{virtual_outbound}, {virtual_inbound}, {}, {}, {}, {}, {}, {}, {}]}}",
        listener("vip", "address: 10.0.0.1, port_value: 80", unbound),
        listener("any", "address: 0.0.0.0, port_value: 80", unbound),
        listener("any6", "address: '::', port_value: 81", unbound),
        listener("both", "address: '::', port_value: 82, ipv4_compat: true", unbound),
        listener("bound", "address: 127.0.0.1, port_value: 90", "bind_to_port: true"),
        listener("udp", "address: 0.0.0.0, port_value: 83, protocol: UDP", unbound),
        listener(
            "second",
            "address: 10.0.0.5, port_value: 84",
            "bind_to_port: false, additional_addresses: [{address: {socket_address: {address: 'fd00::5', port_value: 84}}}]"
        ),
    ));
    for (direction, address, expected) in [
        (CallDirection::Outbound, "10.0.0.1:80", "vip"),
        (CallDirection::Outbound, "10.0.0.2:80", "any"),
        (CallDirection::Outbound, "10.0.0.2:85", "virtualOutbound"),
        (CallDirection::Outbound, "[fd00::1]:81", "any6"),
        (CallDirection::Outbound, "10.0.0.1:81", "virtualOutbound"),
        (CallDirection::Outbound, "10.0.0.1:82", "both"),
        (CallDirection::Outbound, "10.0.0.1:83", "virtualOutbound"),
        (CallDirection::Outbound, "10.0.0.5:84", "second"),
        (CallDirection::Outbound, "[fd00::5]:84", "second"),
        // What is redirected to is reached like any other: this is how Istio's black hole chains come about.
        (CallDirection::Outbound, "10.0.0.1:15006", "virtualInbound"),
        // Nothing redirects what stays on loopback.
        (CallDirection::Outbound, "127.0.0.1:90", "bound"),
        (CallDirection::Outbound, "127.0.0.1:80", "refused"),
        // No listener is asked but the one that everything is redirected to.
        (CallDirection::Inbound, "10.0.0.1:80", "virtualInbound"),
        (CallDirection::Gateway, "10.0.0.9:15001", "virtualOutbound"),
        (CallDirection::Gateway, "10.0.0.1:80", "refused"),
        (CallDirection::Gateway, "127.0.0.1:90", "bound"),
    ] {
        let trace = told.call(&to(direction, address));
        assert_eq!(
            trace.listener.unwrap_or_else(|| trace.verdict.to_string()),
            expected,
            "{direction:?} {address}"
        );
    }
    let handed = told.call(&to(CallDirection::Outbound, "10.0.0.1:80")).said(Stage::Listener);
    assert_eq!(handed, ["virtualOutbound hands 10.0.0.1:80 over", "vip takes it"]);
}

#[test]
fn a_unix_socket_is_a_listener_too() {
    let told = told(&format!(
        "{{listeners: [{{name: pipe, address: {{pipe: {{path: /run/a.sock}}}}, filter_chains: [{{filters: [{}]}}]}}]}}",
        tcp("pipe")
    ));
    assert_eq!(
        told.call(&to(CallDirection::Outbound, "unix:///run/a.sock")).to_string(),
        "pipe pipe (missing)"
    );
    assert_eq!(told.call(&to(CallDirection::Outbound, "unix:///run/b.sock")).to_string(), "refused");
}

/// One listener with these chains, `<name>: <match>`, each of which leads to a cluster of its name.
fn chains(inspectors: &str, chains: &[(&str, &str)], otherwise: Option<&str>) -> ProxyConfigView {
    let list: Vec<String> = chains
        .iter()
        .map(|(name, wanted)| {
            format!("{{name: {name}, filter_chain_match: {{{wanted}}}, filters: [{}]}}", tcp(name))
        })
        .collect();
    let otherwise = otherwise
        .map(|name| format!(", default_filter_chain: {{name: {name}, filters: [{}]}}", tcp(name)))
        .unwrap_or_default();
    told(&format!(
        "{{listeners: [{{name: l, address: {{socket_address: {{address: 0.0.0.0, port_value: 443}}}}, \
         listener_filters: [{inspectors}], filter_chains: [{}]{otherwise}}}]}}",
        list.join(", ")
    ))
}

const TLS: &str = "{name: tls, typed_config: {'@type': \
                   type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}";
const HTTP: &str = "{name: http, typed_config: {'@type': \
                    type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}}";

#[test]
fn criteria_are_asked_in_envoys_order() {
    let told = chains(
        TLS,
        &[
            ("port", "destination_port: 443, server_names: [never.example.com]"),
            ("net8", "prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]"),
            ("net16", "prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}], transport_protocol: tls"),
        ],
        Some("otherwise"),
    );
    let check = |call: &Call, expected| assert_eq!(told.call(call).chain.unwrap(), expected, "{call:?}");
    // The port matches one chain, which asks for a name; there is no way back to those without a port.
    check(&to(CallDirection::Gateway, "10.1.0.1:443"), "otherwise");

    let told = chains(
        TLS,
        &[
            ("net8", "prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]"),
            ("net16", "prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}], transport_protocol: tls"),
        ],
        None,
    );
    let closed = |call: &Call| assert_eq!(told.call(call).to_string(), "l closed", "{call:?}");
    closed(&to(CallDirection::Gateway, "10.1.0.1:443"));
    closed(&to(CallDirection::Gateway, "11.0.0.1:443"));
    assert_eq!(told.call(&to(CallDirection::Gateway, "10.2.0.1:443")).chain.unwrap(), "net8");
    assert_eq!(told.call(&to(CallDirection::Gateway, "10.1.0.1:443").tls("a")).chain.unwrap(), "net16");
}

#[test]
fn the_nearest_server_name_counts() {
    let told = chains(
        TLS,
        &[
            ("exact", "server_names: [a.b.example.com, example.com]"),
            ("deep", "server_names: ['*.b.example.com']"),
            ("wild", "server_names: ['*.example.com']"),
            ("tls", "transport_protocol: tls"),
            ("plain", "transport_protocol: raw_buffer"),
        ],
        None,
    );
    for (name, expected) in [
        ("a.b.example.com", "exact"),
        ("A.B.Example.com", "exact"),
        ("x.b.example.com", "deep"),
        ("x.y.b.example.com", "deep"),
        ("b.example.com", "wild"),
        ("example.com", "exact"),
        ("other.com", "tls"),
        ("", "tls"),
    ] {
        assert_eq!(
            told.call(&to(CallDirection::Gateway, "10.0.0.1:443").tls(name)).chain.unwrap(),
            expected,
            "{name}"
        );
    }
    assert_eq!(told.call(&to(CallDirection::Gateway, "10.0.0.1:443")).chain.unwrap(), "plain");
}

#[test]
fn the_clients_best_protocol_counts() {
    let told = chains(
        &format!("{TLS}, {HTTP}"),
        &[
            ("two", "application_protocols: [h2, h2c]"),
            ("one", "application_protocols: [http/1.1]"),
            ("rest", ""),
        ],
        None,
    );
    let alpn = |list: &[&str]| {
        let tls = Tls { alpn: list.iter().map(|name| (*name).to_owned()).collect(), ..Tls::default() };
        to(CallDirection::Gateway, "10.0.0.1:443").inside(tls)
    };
    let plain = |version| {
        to(CallDirection::Gateway, "10.0.0.1:443").with_request(Request::get("a", "/").version(version))
    };
    for (call, expected) in [
        (alpn(&["h2", "http/1.1"]), "two"),
        (alpn(&["http/1.1", "h2"]), "one"),
        (alpn(&["istio"]), "rest"),
        (alpn(&[]), "rest"),
        (plain(Version::Http11), "one"),
        (plain(Version::Http2), "two"),
        (plain(Version::Http10), "rest"),
        (to(CallDirection::Gateway, "10.0.0.1:443"), "rest"),
    ] {
        assert_eq!(told.call(&call).chain.unwrap(), expected, "{call:?}");
    }
}

#[test]
fn who_calls_counts_last() {
    let told = chains(
        "",
        &[
            ("local", "source_type: SAME_IP_OR_LOOPBACK"),
            ("net", "source_prefix_ranges: [{address_prefix: 10.9.0.0, prefix_len: 16}]"),
            (
                "port",
                "source_prefix_ranges: [{address_prefix: 10.9.0.0, prefix_len: 16}], source_ports: [77]",
            ),
            ("direct", "direct_source_prefix_ranges: [{address_prefix: 10.8.0.0, prefix_len: 16}]"),
            (
                "rest",
                "source_type: EXTERNAL, source_prefix_ranges: [{address_prefix: 12.0.0.0, prefix_len: 8}]",
            ),
        ],
        Some("otherwise"),
    );
    for (source, expected) in [
        ("127.0.0.1:1", "local"),
        ("10.0.0.1:1", "local"),
        // A chain for outsiders exists, so outsiders are looked for there and nowhere else.
        ("10.9.0.1:1", "otherwise"),
        ("12.0.0.1:1", "rest"),
        ("10.8.0.1:1", "direct"),
    ] {
        let call = from(to(CallDirection::Gateway, "10.0.0.1:443"), source);
        assert_eq!(told.call(&call).chain.unwrap(), expected, "{source}");
    }
    let told = chains(
        "",
        &[
            ("net", "source_prefix_ranges: [{address_prefix: 10.9.0.0, prefix_len: 16}]"),
            (
                "port",
                "source_prefix_ranges: [{address_prefix: 10.9.0.0, prefix_len: 16}], source_ports: [77]",
            ),
            ("rest", ""),
        ],
        None,
    );
    for (source, expected) in [("10.9.0.1:1", "net"), ("10.9.0.1:77", "port"), ("10.8.0.1:77", "rest")] {
        let call = from(to(CallDirection::Gateway, "10.0.0.1:443"), source);
        assert_eq!(told.call(&call).chain.unwrap(), expected, "{source}");
    }
}

#[test]
fn inspectors_may_be_off_for_a_port() {
    let filter = |rule: &str| TLS.replace("{name: tls", &format!("{{name: tls, filter_disabled: {rule}"));
    for (rule, port, sees) in [
        ("{any_match: true}", 443, false),
        ("{destination_port_range: {start: 443, end: 444}}", 443, false),
        ("{destination_port_range: {start: 442, end: 443}}", 443, true),
        ("{not_match: {destination_port_range: {start: 443, end: 444}}}", 443, true),
        (
            "{or_match: {rules: [{destination_port_range: {start: 1, end: 2}}, {any_match: true}]}}",
            443,
            false,
        ),
        (
            "{and_match: {rules: [{destination_port_range: {start: 1, end: 2}}, {any_match: true}]}}",
            443,
            true,
        ),
    ] {
        let told = chains(&filter(rule), &[("seen", "transport_protocol: tls"), ("unseen", "")], None);
        let found =
            told.call(&to(CallDirection::Gateway, &format!("10.0.0.1:{port}")).tls("a")).chain.unwrap();
        assert_eq!(found, if sees { "seen" } else { "unseen" }, "{rule}");
    }
}

#[test]
fn a_chain_that_ends_tls_wants_tls() {
    let socket = "transport_socket: {name: tls, typed_config: {'@type': \
                  type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, REQUIRED}}";
    let told = |required: &str| {
        told(&format!(
            "{{listeners: [{{name: l, address: {{socket_address: {{address: 0.0.0.0, port_value: 443}}}}, \
             filter_chains: [{{{}, filters: [{}]}}]}}]}}",
            socket.replace("REQUIRED", required),
            tcp("c")
        ))
    };
    let open = told("require_sni: false");
    let plain = to(CallDirection::Gateway, "10.0.0.1:443");
    assert_eq!(end(&open, &plain), "closed (not TLS)");
    assert_eq!(end(&open, &plain.clone().tls("")), "c (missing)");
    let mutual = told("require_client_certificate: true");
    assert_eq!(end(&mutual, &plain.clone().tls("a")), "closed (handshake)");
    let shown = Tls { certificate: Certificate::Shown, ..Tls::default() };
    assert_eq!(end(&mutual, &plain.clone().inside(shown)), "c (missing)");
    let named = told("require_sni: true");
    assert_eq!(end(&named, &plain.clone().tls("")), "closed (handshake)");
    assert_eq!(end(&named, &plain.tls("a")), "c (missing)");
}

#[test]
fn a_name_of_tls_may_be_a_cluster() {
    let sni = "{name: sni, typed_config: {'@type': \
               type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster}}";
    let told = told(&format!(
        "{{listeners: [{{name: l, address: {{socket_address: {{address: 0.0.0.0, port_value: 443}}}}, \
         filter_chains: [{{filters: [{sni}, {}]}}]}}], clusters: [{{name: outbound_.80_._.a.b, type: ORIGINAL_DST}}]}}",
        tcp("BlackHoleCluster")
    ));
    let call = to(CallDirection::Gateway, "10.0.0.1:443");
    assert_eq!(end(&told, &call.clone().tls("outbound_.80_._.a.b")), "outbound_.80_._.a.b");
    assert_eq!(end(&told, &call), "BlackHoleCluster (missing)");
}

#[test]
fn what_envoy_would_refuse_is_told() {
    let told = told(
        "{listeners: [{name: l, filter_chains: [{name: a}, {name: b, filter_chain_match: {destination_port: 1}}, {name: c}]}], \
         routes: [{name: r, virtual_hosts: [{name: x, domains: [a, b]}, {name: x, domains: [B]}]}]}",
    );
    assert_eq!(
        told.faults(),
        [
            "listener l: two chains have the match of \"c\"",
            "routes r: domain B appears twice",
            "routes r: two virtual hosts have one name",
        ]
    );
}
