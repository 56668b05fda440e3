//! TLS termination: certificates and verification of clients.

use pilot_core::simulate::Stage;

use super::*;

pub(super) const TABLES: Tables = &[who_is_let_in, what_is_shown, protocols];

/// Returns a gateway with one HTTPS server with these TLS settings.
fn secured(tls: &str) -> Client {
    let server = format!(
        "{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['a.example.com'], tls: {tls}}}"
    );
    gateway(&server, TO_HTTP)
}

#[test]
fn who_is_let_in() {
    let bare = "https://a.example.com/ | @192.0.2.1:443";
    check_each(
        Look::Verdict,
        bare,
        secured,
        &[
            (
                "SIMPLE asks for no certificate",
                "{mode: SIMPLE, credentialName: c}",
                "80||web.shop.svc.cluster.local",
            ),
            ("MUTUAL wants a certificate", "{mode: MUTUAL, credentialName: c}", "closed (handshake)"),
            ("ISTIO_MUTUAL wants a certificate", "{mode: ISTIO_MUTUAL}", "closed (handshake)"),
            (
                "OPTIONAL_MUTUAL does without a certificate",
                "{mode: OPTIONAL_MUTUAL, credentialName: c}",
                "80||web.shop.svc.cluster.local",
            ),
            ("HTTPS that is passed on has no requests", "{mode: PASSTHROUGH}", "refused"),
        ],
    );
    check_each(
        Look::Verdict,
        &format!("{bare} | cert"),
        secured,
        &[
            (
                "MUTUAL lets in who shows a certificate",
                "{mode: MUTUAL, credentialName: c}",
                "80||web.shop.svc.cluster.local",
            ),
            (
                "ISTIO_MUTUAL lets in who shows a certificate",
                "{mode: ISTIO_MUTUAL}",
                "80||web.shop.svc.cluster.local",
            ),
        ],
    );
}

#[test]
fn what_is_shown() {
    let tls = "serves tls for a.example.com";
    let ends = |said: &str| format!("{tls}; {said}; offers h2,http/1.1");
    check_each(
        Look::Said(Stage::FilterChain),
        "https://a.example.com/ | @192.0.2.1:443 | cert",
        secured,
        &[
            (
                "a credential is a secret of Kubernetes'",
                "{mode: SIMPLE, credentialName: c}",
                &ends("shows kubernetes://c"),
            ),
            (
                "the roots that clients lead to are a secret beside the credential",
                "{mode: MUTUAL, credentialName: c}",
                &ends("shows kubernetes://c; trusts kubernetes://c-cacert"),
            ),
            (
                "roots may be a secret of their own",
                "{mode: MUTUAL, credentialName: c, caCertCredentialName: roots}",
                &ends("shows kubernetes://c; trusts kubernetes://roots"),
            ),
            (
                "of several credentials each client gets what it can verify",
                "{mode: SIMPLE, credentialNames: [rsa, ecdsa]}",
                &ends("shows kubernetes://rsa; shows kubernetes://ecdsa"),
            ),
            (
                "files are files",
                "{mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem}",
                &ends("shows /c.pem"),
            ),
            (
                "roots are files too",
                "{mode: MUTUAL, serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem}",
                &ends("shows /c.pem; trusts /ca.pem"),
            ),
            (
                "clients that may show a certificate are verified if they do",
                "{mode: OPTIONAL_MUTUAL, serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem}",
                &ends("shows /c.pem; trusts /ca.pem"),
            ),
            (
                "the mesh's own certificates are the agent's",
                "{mode: ISTIO_MUTUAL}",
                &ends("shows default; trusts ROOTCA"),
            ),
            (
                "clients have one of these names",
                "{mode: MUTUAL, credentialName: c, subjectAltNames: [spiffe://a/b, x.com]}",
                &ends("shows kubernetes://c; trusts kubernetes://c-cacert; expects spiffe://a/b,x.com"),
            ),
        ],
    );
}

#[test]
fn protocols() {
    check_each(
        Look::Said(Stage::FilterChain),
        "https://a.example.com/ | @192.0.2.1:443",
        secured,
        &[
            (
                "the oldest and the newest version",
                "{mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3}",
                "serves tls for a.example.com; shows kubernetes://c; offers h2,http/1.1; TLS from 1.2; TLS to 1.3",
            ),
            (
                "suites as OpenSSL spells them",
                "{mode: SIMPLE, credentialName: c, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]}",
                "serves tls for a.example.com; shows kubernetes://c; offers h2,http/1.1; ciphers ECDHE-RSA-AES256-GCM-SHA384",
            ),
        ],
    );
}
