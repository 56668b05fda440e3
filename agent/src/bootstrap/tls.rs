//! TLS in a bootstrap: towards the control plane with files, towards collectors with secrets that the agent
//! serves over SDS, and of the metrics listeners.

use std::net::IpAddr;
use std::path::Path;

use pilot_proto::mesh::proxy_config::{ClientTls, TlsMode};
use serde_json::{Map, Value, json};

use super::set;
use crate::config::address::HostPort;
use crate::config::node::Node;
use crate::config::xds::{Roots, XdsTls};

/// The agent's SDS server.
pub(super) const SDS_CLUSTER: &str = "sds-grpc";
/// The workload's own certificate.
const WORKLOAD: &str = "default";
/// Roots of the mesh.
const ROOTS: &str = "ROOTCA";

/// HTTP/2 in the ALPN of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpn {
    Http2,
    Silent,
}

/// The transport socket towards a collector; `None`: plaintext.
pub(super) fn towards_collector(tls: &ClientTls, sni: &str, alpn: Alpn, node: &Node) -> Option<Value> {
    let file = |key: &str, of_settings: &str| {
        let of_node = node.raw(key).filter(|path| !path.is_empty());
        of_node.unwrap_or(of_settings).to_owned()
    };
    let root = file("TLS_CLIENT_ROOT_CERT", &tls.ca_certificates);
    let root = Some(root).filter(|path| !path.is_empty()).map(|path| format!("file-root:{path}"));
    let mut common = Map::new();
    let (protocols, sni) = match tls.mode {
        TlsMode::Disable => return None,
        TlsMode::Simple | TlsMode::Mutual => {
            common.extend(validation(&tls.subject_alt_names, root.as_deref()));
            (json!(["h2"]), tls.sni.as_str())
        }
        TlsMode::IstioMutual => {
            common.extend(validation(&tls.subject_alt_names, Some(ROOTS)));
            (json!(["istio", "h2"]), if tls.sni.is_empty() { sni } else { tls.sni.as_str() })
        }
    };
    let certificate = match tls.mode {
        TlsMode::Mutual => {
            let certificate = file("TLS_CLIENT_CERT_CHAIN", &tls.client_certificate);
            let key = file("TLS_CLIENT_KEY", &tls.private_key);
            (!certificate.is_empty() && !key.is_empty()).then(|| format!("file-cert:{certificate}~{key}"))
        }
        TlsMode::IstioMutual => Some(WORKLOAD.to_owned()),
        TlsMode::Disable | TlsMode::Simple => None,
    };
    if let Some(name) = certificate {
        common.insert("tls_certificate_sds_secret_configs".into(), json!([secret(&name)]));
    }
    if alpn == Alpn::Http2 {
        common.insert("alpn_protocols".into(), protocols);
    }
    let mut context = Map::from_iter([("common_tls_context".to_owned(), Value::Object(common))]);
    if !sni.is_empty() {
        context.insert("sni".into(), sni.into());
    }
    Some(upstream(context))
}

/// The transport socket towards the control plane. Its files are watched: a rotated certificate holds from
/// the next connection on.
pub(super) fn towards_control_plane(tls: &XdsTls, address: &HostPort) -> Value {
    let watched = |file: &str| {
        let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        json!({"path": folder.display().to_string()})
    };
    let mut validation = json!({"match_typed_subject_alt_names": tls.names.iter().map(|name| {
        json!({"san_type": san_type(name), "matcher": {"exact": name}})
    }).collect::<Vec<_>>()});
    match &tls.roots {
        Roots::System => set(&mut validation, "system_root_certs", json!({})),
        Roots::File(file) => {
            set(&mut validation, "trusted_ca", json!({"filename": file}));
            set(&mut validation, "watched_directory", watched(file));
        }
    }
    let mut common = json!({"alpn_protocols": ["h2"], "validation_context": validation});
    if let Some((certificate, key)) = &tls.certificate {
        set(
            &mut common,
            "tls_certificates",
            json!([{
                "certificate_chain": {"filename": certificate},
                "private_key": {"filename": key},
                "watched_directory": watched(certificate),
            }]),
        );
    }
    let mut context = Map::from_iter([("common_tls_context".to_owned(), common)]);
    let named = tls.names.first().filter(|name| san_type(name) == "DNS");
    if let Some(sni) = named.or(Some(&address.host).filter(|_| address.ip().is_none())) {
        context.insert("sni".into(), sni.as_str().into());
    }
    upstream(context)
}

/// The transport socket of a listener that only workloads of the mesh may use.
pub(super) fn for_mesh() -> Value {
    let plain = |name: &str| {
        let mut secret = secret(name);
        if let Some(source) = secret.get_mut("sds_config").and_then(Value::as_object_mut) {
            source.remove("initial_fetch_timeout");
        }
        secret
    };
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [plain(WORKLOAD)],
            "combined_validation_context": {
                "default_validation_context": {},
                "validation_context_sds_secret_config": plain(ROOTS),
            },
        },
    }})
}

fn upstream(mut context: Map<String, Value>) -> Value {
    context.insert(
        "@type".into(),
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext".into(),
    );
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

/// Returns the verification of a server. Without a CA file the CA certificates of the system are used; verification is never off.
fn validation(names: &[String], root: Option<&str>) -> [(String, Value); 1] {
    let names: Vec<_> = names.iter().map(|name| json!({"exact": name})).collect();
    let mut context = Map::new();
    if !names.is_empty() {
        context.insert("match_subject_alt_names".into(), names.into());
    }
    let Some(root) = root else {
        context.insert("system_root_certs".into(), json!({}));
        return [("validation_context".into(), Value::Object(context))];
    };
    let combined = json!({
        "default_validation_context": context,
        "validation_context_sds_secret_config": secret(root),
    });
    [("combined_validation_context".into(), combined)]
}

fn secret(name: &str) -> Value {
    let mut source = json!({
        "api_config_source": {
            "api_type": "GRPC",
            "grpc_services": [{"envoy_grpc": {"cluster_name": SDS_CLUSTER}}],
            "set_node_on_first_message_only": true,
            "transport_api_version": "V3",
        },
        "resource_api_version": "V3",
    });
    if name == WORKLOAD || name == ROOTS {
        // Without the mesh's own certificate nothing can be done but wait for it.
        set(&mut source, "initial_fetch_timeout", "0s");
    }
    json!({"name": name, "sds_config": source})
}

fn san_type(name: &str) -> &'static str {
    if name.contains("://") {
        "URI"
    } else if name.parse::<IpAddr>().is_ok() {
        "IP_ADDRESS"
    } else {
        "DNS"
    }
}
