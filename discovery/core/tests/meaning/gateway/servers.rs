//! Protocols and destinations of servers.

use super::*;

pub(super) const TABLES: Tables = &[
    bytes,
    tls_passed_on,
    bytes_inside_tls,
    requests,
    https_redirect,
    https,
    who_comes_first,
    tls_of_the_mesh,
];

#[test]
fn bytes() {
    let server = "{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}";
    check(
        &gateway(server, &format!("tcp: [{{{TO_BYTES}}}]")),
        Look::End,
        &[
            (
                "bytes go where the first rule says",
                "tcp://192.0.2.1:9000",
                "0.0.0.0_9000 outbound|9000||web.shop.svc.cluster.local",
            ),
            ("nothing listens at other ports than those of servers", "tcp://192.0.2.1:9001", "refused"),
        ],
    );
    check(
        &gateway(server, &format!("tcp: [{{match: [{{port: 1}}], {TO_BYTES}}}]")),
        Look::End,
        &[("a rule for another port is none for this", "tcp://192.0.2.1:9000", "refused")],
    );
}

#[test]
fn tls_passed_on() {
    let server =
        "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}}";
    check(
        &gateway(server, &format!("tls: [{{match: [{{sniHosts: [a.example.com]}}], {TO_TLS}}}]")),
        Look::End,
        &[
            (
                "TLS is passed on to where the rule for its name says",
                "tls://a.example.com | @192.0.2.1:443",
                "0.0.0.0_443 outbound|443||web.shop.svc.cluster.local",
            ),
            (
                "TLS for a name without a rule is closed",
                "tls://b.example.com | @192.0.2.1:443",
                "0.0.0.0_443 closed",
            ),
        ],
    );
}

#[test]
fn bytes_inside_tls() {
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['a.example.com'],
      tls: {mode: SIMPLE, serverCertificate: /etc/cert.pem, privateKey: /etc/key.pem}}";
    check(
        &gateway(server, &format!("tcp: [{{{TO_BYTES}}}]")),
        Look::End,
        &[
            (
                "what is inside TLS goes where the rule for bytes says",
                "tls://a.example.com | @192.0.2.1:443",
                "0.0.0.0_443 outbound|9000||web.shop.svc.cluster.local",
            ),
            (
                "TLS for other hosts than the server's is closed",
                "tls://b.example.com | @192.0.2.1:443",
                "0.0.0.0_443 closed",
            ),
        ],
    );
}

#[test]
fn requests() {
    let to =
        "http: [{match: [{uri: {prefix: /api}}], route: [{destination: {host: web, port: {number: 80}}}]}]";
    check(
        &gateway(HTTP, to),
        Look::End,
        &[
            (
                "requests go where the rules for their host say",
                "http://192.0.2.1/api | host: a.example.com",
                "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "a path without a rule finds nobody",
                "http://192.0.2.1/ | host: a.example.com",
                "0.0.0.0_80 [*.example.com:80] 404",
            ),
            (
                "a host that nobody serves finds nobody",
                "http://192.0.2.1/api | host: example.org",
                "0.0.0.0_80 404",
            ),
            (
                "the port in a host says nothing",
                "http://192.0.2.1/api | host: a.example.com:80",
                "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
        ],
    );
    check(
        &gateway("{port: {number: 80, name: http, protocol: HTTP}, hosts: ['a.example.com']}", to),
        Look::End,
        &[
            (
                "of two hosts the narrower one is served",
                "http://192.0.2.1/api | host: a.example.com",
                "0.0.0.0_80 [a.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "of a wider host nothing but the narrower one is served",
                "http://192.0.2.1/api | host: b.example.com",
                "0.0.0.0_80 404",
            ),
        ],
    );
    check(
        &gateway("{port: {number: 80, name: http, protocol: HTTP}, hosts: ['other/*']}", to),
        Look::End,
        &[(
            "rules of other namespaces than the server names are not for it",
            "http://192.0.2.1/api | host: a.example.com",
            "0.0.0.0_80 [blackhole:80] 404",
        )],
    );
    check(
        &gateway("{port: {number: 80, name: http, protocol: HTTP}, hosts: ['./*']}", to),
        Look::End,
        &[(
            "`.` is the namespace of the Gateway",
            "http://192.0.2.1/api | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
        )],
    );
}

#[test]
fn https_redirect() {
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com'], tls: {httpsRedirect: true}}";
    let to = "http: [{route: [{destination: {host: web, port: {number: 80}}}]}]";
    check(
        &gateway(server, to),
        Look::End,
        &[(
            "requests in plaintext are sent to https, of every host of the server",
            "http://192.0.2.1/x | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] 301 https://a.example.com/x",
        )],
    );
}

#[test]
fn https() {
    let server = |name: &str, host: &str| {
        format!(
            "{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: ['{host}'],
              tls: {{mode: SIMPLE, serverCertificate: /etc/cert.pem, privateKey: /etc/key.pem}}}}"
        )
    };
    let to = "http: [{route: [{destination: {host: web, port: {number: 80}}}]}]";
    let two = format!("{}, {}", server("a", "a.example.com"), server("b", "b.example.com"));
    check(
        &gateway(&two, to),
        Look::End,
        &[
            (
                "each name has the routes of its server",
                "https://a.example.com/ | @192.0.2.1:443",
                "0.0.0.0_443 [a.example.com:443] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "a name that nobody serves is closed",
                "https://c.example.com/ | @192.0.2.1:443",
                "0.0.0.0_443 closed",
            ),
            (
                "a request for another host than the name is not routed",
                "https://a.example.com/ | @192.0.2.1:443 | host: b.example.com",
                "0.0.0.0_443 404",
            ),
            (
                "plaintext at a port of TLS is closed",
                "http://192.0.2.1:443/ | host: a.example.com",
                "0.0.0.0_443 closed",
            ),
        ],
    );
    let same = format!("{}, {}", server("a", "a.example.com"), server("b", "a.example.com"));
    check(
        &gateway(&same, to),
        Look::End,
        &[(
            "of two servers for one name the first one has it",
            "https://a.example.com/ | @192.0.2.1:443",
            "0.0.0.0_443 [a.example.com:443] outbound|80||web.shop.svc.cluster.local",
        )],
    );
}

#[test]
fn who_comes_first() {
    let servers = "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}, {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
    let rules = format!("tcp: [{{{TO_BYTES}}}]\n{TO_HTTP}");
    check(
        &gateway(servers, &rules),
        Look::End,
        &[(
            "who has a port first decides what is spoken there",
            "http://192.0.2.1/",
            "0.0.0.0_80 outbound|9000||web.shop.svc.cluster.local",
        )],
    );
}

#[test]
fn tls_of_the_mesh() {
    let server = "{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}";
    let sni = "outbound_.9000_._.web.shop.svc.cluster.local";
    let client = gateway(server, "http: [{route: [{destination: {host: web}}]}]");
    check(
        &client,
        Look::End,
        &[
            (
                "TLS of the mesh is passed on to the cluster that its SNI names",
                &format!("tls://{sni} | @192.0.2.1:15443 | alpn istio"),
                &format!("0.0.0.0_15443 {sni}"),
            ),
            (
                "whoever does not offer the mesh's protocols is closed",
                &format!("tls://{sni} | @192.0.2.1:15443 | alpn h2"),
                "0.0.0.0_15443 closed",
            ),
        ],
    );
}
