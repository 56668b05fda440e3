//! `tls` and `proxyProtocol`: transport socket of a cluster.
//!
//! Certificate files are read by Envoy when it receives the cluster. In Istio the agent serves them by SDS, so that Envoy
//! notices changes; this agent does not.

use pilot_proto::envoy::config::core::v3::{
    ProxyProtocolConfig, TransportSocket, proxy_protocol_config, transport_socket,
};
use pilot_proto::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use pilot_proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, TlsCertificate, TlsParameters,
    UpstreamTlsContext, tls_parameters::TlsProtocol,
};
use pilot_proto::mesh::MeshTls;
use prost::{Message, Name};

use super::http_options::{HttpOptions, UpstreamHttp};
use super::{ClusterClient, OutboundCluster};
use crate::api::destination_rule::{ClientTls, ClientTlsMode, ProxyProtocolVersion};
use crate::generate::proto::any;
use crate::generate::sds_config;
use crate::generate::traffic_policy::MergedTrafficPolicy;
use crate::model::{Registry, Resolution};

/// CA certificates of the system in Debian-based images, which proxies use. If the file is missing, Envoy rejects the cluster;
/// the alternative would be no verification.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Verification of server names by a dynamic forward proxy. Envoy requires an explicit option to disable it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameVerification {
    On,
    Off,
}

/// Returns the transport socket; `None`: plaintext.
pub(super) fn socket(
    outbound: &OutboundCluster,
    policy: &MergedTrafficPolicy,
    http: &mut HttpOptions,
) -> Option<TransportSocket> {
    let tls = policy.tls.as_ref().and_then(|tls| match tls.mode {
        ClientTlsMode::Disable => None,
        ClientTlsMode::IstioMutual => Some(istio_mutual(outbound, tls, http)),
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            configured_tls(outbound, tls, &policy.mesh.tls_defaults, http)
        }
    });
    let tls = tls.map(|context| transport_socket("envoy.transport_sockets.tls", &context));
    let Some(proxy_protocol) = policy.proxy_protocol else { return tls };
    let version = match proxy_protocol.version {
        ProxyProtocolVersion::V1 => proxy_protocol_config::Version::V1,
        ProxyProtocolVersion::V2 => proxy_protocol_config::Version::V2,
    };
    let inner = tls.unwrap_or_else(|| transport_socket("envoy.transport_sockets.raw_buffer", &RawBuffer {}));
    let wrapped = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig { version: version.into(), ..ProxyProtocolConfig::default() }),
        transport_socket: Some(inner),
        ..ProxyProtocolUpstreamTransport::default()
    };
    Some(transport_socket("envoy.transport_sockets.upstream_proxy_protocol", &wrapped))
}

// === impl NameVerification ===

impl NameVerification {
    /// Returns `Off` if the rule sets an SNI or skips verification.
    pub(super) fn of(policy: &MergedTrafficPolicy) -> Self {
        match &policy.tls {
            Some(tls)
                if tls.mode != ClientTlsMode::Disable
                    && (tls.insecure_skip_verify == Some(true) || !tls.sni.is_empty()) =>
            {
                Self::Off
            }
            _ => Self::On,
        }
    }
}

/// `ISTIO_MUTUAL`: certificates of the mesh on both sides.
fn istio_mutual(outbound: &OutboundCluster, tls: &ClientTls, http: &mut HttpOptions) -> UpstreamTlsContext {
    let dynamic = outbound.service.resolution == Resolution::DynamicDns;
    if dynamic {
        use_request_host(tls, dynamic, http);
    }
    let sni = match (tls.sni.as_str(), dynamic) {
        ("", false) => outbound.cluster_name().sni(),
        (sni, _) => sni.to_owned(),
    };
    let names = if tls.subject_alt_names.is_empty() { &outbound.identities } else { &tls.subject_alt_names };
    let workload_certificate = sds_config::workload_secret(sds_config::DEFAULT);
    let alpn: &[&str] = match http.protocol {
        UpstreamHttp::Http2 => &["istio", "h2"],
        UpstreamHttp::Http1 | UpstreamHttp::UseDownstream => &["istio"],
    };
    UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![workload_certificate],
            validation_context_type: Some(sds_validation_context(
                san_validation_context(names),
                sds_config::workload_secret(sds_config::ROOT),
            )),
            alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
            ..common()
        }),
        sni,
        ..UpstreamTlsContext::default()
    }
}

/// `SIMPLE` and `MUTUAL`: certificates of the rule.
fn configured_tls(
    outbound: &OutboundCluster,
    tls: &ClientTls,
    defaults: &MeshTls,
    http: &mut HttpOptions,
) -> Option<UpstreamTlsContext> {
    if outbound.withholds_credential(tls) {
        return None;
    }
    use_request_host(tls, outbound.service.resolution == Resolution::DynamicDns, http);
    let skips_verification = tls.insecure_skip_verify == Some(true);
    let is_external = outbound.service.registry == Registry::External;
    let names = match tls.subject_alt_names.as_slice() {
        [] if is_external => &outbound.service.service_accounts,
        _ => &tls.subject_alt_names,
    };
    let mut context = common();
    if let Some(params) = &mut context.tls_params {
        // As in Istio, the minimum version of `tlsDefaults` does not apply to upstream connections.
        params.cipher_suites.clone_from(&defaults.cipher_suites);
        params.ecdh_curves.clone_from(&defaults.ecdh_curves);
    }
    if tls.credential_name.is_empty() {
        if tls.mode == ClientTlsMode::Mutual {
            context.tls_certificates = vec![TlsCertificate {
                certificate_chain: Some(sds_config::file(&tls.client_certificate)),
                private_key: Some(sds_config::file(&tls.private_key)),
                ..TlsCertificate::default()
            }];
        }
        let roots = if tls.ca_certificates.is_empty() { SYSTEM_ROOTS } else { &tls.ca_certificates };
        let validation = || CertificateValidationContext {
            trusted_ca: Some(sds_config::file(roots)),
            crl: (!tls.ca_crl.is_empty()).then(|| sds_config::file(&tls.ca_crl)),
            ..san_validation_context(names)
        };
        let validation_context =
            if skips_verification { CertificateValidationContext::default() } else { validation() };
        context.validation_context_type = Some(ValidationContextType::ValidationContext(validation_context));
    } else {
        if tls.mode == ClientTlsMode::Mutual {
            context.tls_certificate_sds_secret_configs =
                vec![sds_config::credential_secret(&tls.credential_name)];
        }
        let roots = format!("{}{}", tls.credential_name, sds_config::ROOTS_SUFFIX);
        context.validation_context_type = (!skips_verification).then(|| {
            sds_validation_context(san_validation_context(names), sds_config::credential_secret(&roots))
        });
    }
    if http.protocol == UpstreamHttp::Http2 {
        context.alpn_protocols = vec!["h2".into()];
    }
    Some(UpstreamTlsContext {
        common_tls_context: Some(context),
        sni: tls.sni.clone(),
        ..UpstreamTlsContext::default()
    })
}

/// Without an SNI in the rule the host of the request is the SNI, and without SANs it is verified.
fn use_request_host(tls: &ClientTls, dynamic: bool, http: &mut HttpOptions) {
    let sets_sni = tls.sni.is_empty();
    let verifies =
        tls.insecure_skip_verify != Some(true) && (dynamic || (sets_sni && tls.subject_alt_names.is_empty()));
    if sets_sni || verifies {
        let names = http.upstream.get_or_insert_default();
        names.auto_sni |= sets_sni;
        names.auto_san_validation |= verifies;
    }
}

fn common() -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
            // Envoy's default maximum for upstream connections is 1.2.
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..TlsParameters::default()
        }),
        ..CommonTlsContext::default()
    }
}

fn san_validation_context(names: &[String]) -> CertificateValidationContext {
    CertificateValidationContext {
        match_typed_subject_alt_names: names.iter().map(|name| sds_config::exact_san(name)).collect(),
        ..CertificateValidationContext::default()
    }
}

fn sds_validation_context(
    default: CertificateValidationContext,
    roots: SdsSecretConfig,
) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(default),
        validation_context_sds_secret_config: Some(roots),
        ..CombinedCertificateValidationContext::default()
    })
}

fn transport_socket<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: any(config).map(transport_socket::ConfigType::TypedConfig),
    }
}

// === impl OutboundCluster ===

impl OutboundCluster {
    /// Returns true if the cluster must not use the `credentialName`. A sidecar uses it only from a rule with a
    /// `workloadSelector`. Otherwise every sidecar would request a secret it may not read, and wait for it.
    pub(super) fn withholds_credential(&self, tls: &ClientTls) -> bool {
        let for_all = self.client == ClusterClient::Sidecar
            && !self.rule.as_ref().is_some_and(|rule| rule.has_workload_selector);
        for_all && !tls.credential_name.is_empty() && !tls.credential_name.starts_with("configmap://")
    }
}
