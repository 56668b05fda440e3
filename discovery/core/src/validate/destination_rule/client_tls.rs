//! Validation of `tls` of connections to a host.

use super::super::findings::{At, Findings};
use crate::api::destination_rule::{ClientTls, ClientTlsMode};

/// Prefix of secrets in a `ConfigMap`: `configmap://[<namespace>/]<name>`.
const CONFIG_MAP: &str = "configmap://";

pub(super) fn check(out: &mut Findings, at: At<'_>, namespace: &str, tls: &ClientTls) {
    let at_credential = at.of("credentialName");
    if let Some(name) = tls.credential_name.strip_prefix(CONFIG_MAP) {
        let (owner, name) = name.split_once('/').unwrap_or((namespace, name));
        if name.is_empty() || name.contains('/') {
            out.error(at_credential, format!("{:?} names no ConfigMap", tls.credential_name));
        } else if owner != namespace {
            out.error(at_credential, "only a ConfigMap of the rule's own namespace can be named");
        }
    }
    let is_lax = tls.insecure_skip_verify == Some(true);
    let verifies = !tls.ca_certificates.is_empty() || !tls.subject_alt_names.is_empty();
    let has_credential = !tls.credential_name.is_empty();
    match tls.mode {
        ClientTlsMode::Disable | ClientTlsMode::IstioMutual => return,
        ClientTlsMode::Simple if is_lax && (verifies || has_credential) => {
            let message = "excludes caCertificates, credentialName and subjectAltNames: nothing is verified";
            out.error(at.of("insecureSkipVerify"), message);
        }
        ClientTlsMode::Mutual if is_lax && verifies => {
            let message = "excludes caCertificates and subjectAltNames: nothing is verified";
            out.error(at.of("insecureSkipVerify"), message);
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {}
    }
    if has_credential {
        let files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates, &tls.ca_crl];
        if files.iter().any(|file| !file.is_empty()) {
            out.error(at_credential, "excludes files of certificates");
        }
    } else if tls.mode == ClientTlsMode::Mutual {
        out.present(at.of("clientCertificate"), &tls.client_certificate);
        out.present(at.of("privateKey"), &tls.private_key);
    }
}
