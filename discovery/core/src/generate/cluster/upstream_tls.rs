//! `tls` and `proxyProtocol`: what lies between a connection's bytes and the wire.
//!
//! Certificates in files are named to Envoy itself. Istio has its agent serve them, so that Envoy notices when they
//! change; no such server is beside the proxy here, and Envoy reads the files when it is given the cluster.

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

/// Where Debian and those like it keep the roots that their packages trust; proxies run in such an image. Where the
/// file is missing Envoy refuses the cluster, which is better than to trust everybody.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Whether a dynamic forward proxy checks that servers are who they were asked for. Envoy wants to be told when not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameVerification {
    On,
    Off,
}

/// What the policy asks for; `None`: the bytes as they are.
pub(super) fn socket(
    outbound: &OutboundCluster,
    policy: &MergedTrafficPolicy,
    http: &mut HttpOptions,
) -> Option<TransportSocket> {
    let tls = policy.tls.as_ref().and_then(|tls| match tls.mode {
        ClientTlsMode::Disable => None,
        ClientTlsMode::IstioMutual => Some(of_mesh(outbound, tls, http)),
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            of_rule(outbound, tls, &policy.mesh.tls_defaults, http)
        }
    });
    let tls = tls.map(|context| named("envoy.transport_sockets.tls", &context));
    let Some(proxied) = policy.proxy_protocol else { return tls };
    let version = match proxied.version {
        ProxyProtocolVersion::V1 => proxy_protocol_config::Version::V1,
        ProxyProtocolVersion::V2 => proxy_protocol_config::Version::V2,
    };
    let inner = tls.unwrap_or_else(|| named("envoy.transport_sockets.raw_buffer", &RawBuffer {}));
    let wrapped = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig { version: version.into(), ..ProxyProtocolConfig::default() }),
        transport_socket: Some(inner),
        ..ProxyProtocolUpstreamTransport::default()
    };
    Some(named("envoy.transport_sockets.upstream_proxy_protocol", &wrapped))
}

// === impl NameVerification ===

impl NameVerification {
    /// Off where the rule says which name is meant, or that none is checked.
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
fn of_mesh(outbound: &OutboundCluster, tls: &ClientTls, http: &mut HttpOptions) -> UpstreamTlsContext {
    let dynamic = outbound.service.resolution == Resolution::DynamicDns;
    if dynamic {
        follow_names(tls, dynamic, http);
    }
    let sni = match (tls.sni.as_str(), dynamic) {
        ("", false) => outbound.cluster_name().sni(),
        (said, _) => said.to_owned(),
    };
    let names = if tls.subject_alt_names.is_empty() { &outbound.identities } else { &tls.subject_alt_names };
    let own = sds_config::workload_secret(sds_config::DEFAULT);
    let alpn: &[&str] = match http.protocol {
        UpstreamHttp::Http2 => &["istio", "h2"],
        UpstreamHttp::Http1 | UpstreamHttp::UseDownstream => &["istio"],
    };
    UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![own],
            validation_context_type: Some(fetched(
                named_like(names),
                sds_config::workload_secret(sds_config::ROOT),
            )),
            alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
            ..common()
        }),
        sni,
        ..UpstreamTlsContext::default()
    }
}

/// `SIMPLE` and `MUTUAL`: certificates of the rule's.
fn of_rule(
    outbound: &OutboundCluster,
    tls: &ClientTls,
    defaults: &MeshTls,
    http: &mut HttpOptions,
) -> Option<UpstreamTlsContext> {
    if outbound.keeps_secret(tls) {
        return None;
    }
    follow_names(tls, outbound.service.resolution == Resolution::DynamicDns, http);
    let unverified = tls.insecure_skip_verify == Some(true);
    let declared = outbound.service.registry == Registry::External;
    let names = match tls.subject_alt_names.as_slice() {
        [] if declared => &outbound.service.service_accounts,
        _ => &tls.subject_alt_names,
    };
    let mut made = common();
    if let Some(params) = &mut made.tls_params {
        // As in Istio, how old a version may be is no matter of what the proxy connects to.
        params.cipher_suites.clone_from(&defaults.cipher_suites);
        params.ecdh_curves.clone_from(&defaults.ecdh_curves);
    }
    if tls.credential_name.is_empty() {
        if tls.mode == ClientTlsMode::Mutual {
            made.tls_certificates = vec![TlsCertificate {
                certificate_chain: Some(sds_config::file(&tls.client_certificate)),
                private_key: Some(sds_config::file(&tls.private_key)),
                ..TlsCertificate::default()
            }];
        }
        let roots = if tls.ca_certificates.is_empty() { SYSTEM_ROOTS } else { &tls.ca_certificates };
        let verified = || CertificateValidationContext {
            trusted_ca: Some(sds_config::file(roots)),
            crl: (!tls.ca_crl.is_empty()).then(|| sds_config::file(&tls.ca_crl)),
            ..named_like(names)
        };
        let context = if unverified { CertificateValidationContext::default() } else { verified() };
        made.validation_context_type = Some(ValidationContextType::ValidationContext(context));
    } else {
        if tls.mode == ClientTlsMode::Mutual {
            made.tls_certificate_sds_secret_configs =
                vec![sds_config::credential_secret(&tls.credential_name)];
        }
        let roots = format!("{}{}", tls.credential_name, sds_config::ROOTS_SUFFIX);
        made.validation_context_type =
            (!unverified).then(|| fetched(named_like(names), sds_config::credential_secret(&roots)));
    }
    if http.protocol == UpstreamHttp::Http2 {
        made.alpn_protocols = vec!["h2".into()];
    }
    Some(UpstreamTlsContext {
        common_tls_context: Some(made),
        sni: tls.sni.clone(),
        ..UpstreamTlsContext::default()
    })
}

/// Without a name in the rule the server is asked for the host of the request, and has to prove to be that.
fn follow_names(tls: &ClientTls, dynamic: bool, http: &mut HttpOptions) {
    let asks = tls.sni.is_empty();
    let verifies =
        tls.insecure_skip_verify != Some(true) && (dynamic || (asks && tls.subject_alt_names.is_empty()));
    if asks || verifies {
        let names = http.names.get_or_insert_default();
        names.auto_sni |= asks;
        names.auto_san_validation |= verifies;
    }
}

fn common() -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
            // A client of Envoy's offers no more than 1.2 by itself.
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..TlsParameters::default()
        }),
        ..CommonTlsContext::default()
    }
}

fn named_like(names: &[String]) -> CertificateValidationContext {
    CertificateValidationContext {
        match_typed_subject_alt_names: names.iter().map(|name| sds_config::exact_san(name)).collect(),
        ..CertificateValidationContext::default()
    }
}

fn fetched(default: CertificateValidationContext, roots: SdsSecretConfig) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(default),
        validation_context_sds_secret_config: Some(roots),
        ..CombinedCertificateValidationContext::default()
    })
}

fn named<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: any(config).map(transport_socket::ConfigType::TypedConfig),
    }
}

// === impl OutboundCluster ===

impl OutboundCluster {
    /// Whether a rule names a secret that is not for everybody. A sidecar is told of it only by a rule that selects
    /// workloads: one for all would have every sidecar ask for a secret that it may not have, and wait for it.
    pub(super) fn keeps_secret(&self, tls: &ClientTls) -> bool {
        let for_all = self.client == ClusterClient::Sidecar
            && !self.rule.as_ref().is_some_and(|rule| rule.has_workload_selector);
        for_all && !tls.credential_name.is_empty() && !tls.credential_name.starts_with("configmap://")
    }
}
