//! Validation of server TLS, of a `Gateway` or of an ingress listener of a `Sidecar`.

use std::collections::HashSet;

use super::findings::{At, Findings};
use super::values::{is_cipher_suite, is_ecdh_curve};
use crate::api::gateway::{ServerTls, ServerTlsMode, TlsProtocol};

/// Maximum number of certificates of one server: RSA and ECDSA.
const MOST_CERTIFICATES: usize = 2;

pub(super) fn check(out: &mut Findings, at: At<'_>, tls: &ServerTls) {
    versions(out, at, tls);
    known(out, at.of("cipherSuites"), "suite", &tls.cipher_suites, is_cipher_suite);
    known(out, at.of("ecdhCurves"), "curve", &tls.ecdh_curves, is_ecdh_curve);
    out.at_most(at.of("credentialNames"), tls.credential_names.len(), MOST_CERTIFICATES);
    out.at_most(at.of("tlsCertificates"), tls.tls_certificates.len(), MOST_CERTIFICATES);
    match tls.mode {
        ServerTlsMode::IstioMutual => mesh_certificates(out, at, tls),
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            if sources(tls).iter().any(|(_, is_set)| *is_set)
                || !tls.ca_crl.is_empty()
                || !tls.ca_certificates.is_empty()
            {
                out.warning(at.of("mode"), "TLS does not end here: certificates have no effect");
            }
            out.at_most_one(at, &sources(tls));
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            own_certificates(out, at, tls);
        }
    }
}

/// Returns the sources of certificates that are set.
fn sources(tls: &ServerTls) -> [(&'static str, bool); 4] {
    [
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("serverCertificate", !tls.server_certificate.is_empty() && !tls.private_key.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]
}

fn versions(out: &mut Findings, at: At<'_>, tls: &ServerTls) {
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if matches!(min, TlsProtocol::V1_0 | TlsProtocol::V1_1) && tls.cipher_suites.is_empty() {
        out.warning(
            at.of("minProtocolVersion"),
            "before 1.2 no suite is left without cipherSuites that have one",
        );
    }
    if max != TlsProtocol::Auto && min > max {
        out.warning(at.of("maxProtocolVersion"), "is before minProtocolVersion: no client can connect");
    }
}

/// Checks that the elements of a list are known to Envoy and unique.
fn known(out: &mut Findings, at: At<'_>, what: &str, list: &[String], is_known: fn(&str) -> bool) {
    let mut seen = HashSet::new();
    for (index, name) in list.iter().enumerate() {
        if !is_known(name) {
            out.warning(at.nth(index), format!("{name:?} is no {what} that Envoy has, and is left out"));
        } else if !seen.insert(name) {
            out.warning(at.nth(index), format!("{name:?} is there before"));
        }
    }
}

fn mesh_certificates(out: &mut Findings, at: At<'_>, tls: &ServerTls) {
    for (field, is_set) in [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ] {
        if is_set {
            out.error(at.of(field), "mode ISTIO_MUTUAL has the mesh's own certificates");
        }
    }
}

fn own_certificates(out: &mut Findings, at: At<'_>, tls: &ServerTls) {
    out.at_most_one(at, &sources(tls));
    let has_credentials = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
    if has_credentials {
        if !tls.ca_crl.is_empty() {
            out.warning(
                at.of("caCrl"),
                "has no effect: with a credentialName the list is part of the secret",
            );
        }
        return;
    }
    if !tls.ca_crl.is_empty() && tls.mode == ServerTlsMode::Simple {
        out.error(at.of("caCrl"), "mode SIMPLE asks clients for no certificate");
    }
    if tls.mode != ServerTlsMode::Simple && tls.ca_certificates.is_empty() {
        out.error(at.of("caCertificates"), "is missing: clients' certificates lead to nothing");
    }
    if tls.tls_certificates.is_empty() {
        out.present(at.of("serverCertificate"), &tls.server_certificate);
        out.present(at.of("privateKey"), &tls.private_key);
    }
    for (index, pair) in tls.tls_certificates.iter().enumerate() {
        let list = at.of("tlsCertificates");
        let at = list.nth(index);
        out.present(at.of("serverCertificate"), &pair.server_certificate);
        out.present(at.of("privateKey"), &pair.private_key);
    }
}
