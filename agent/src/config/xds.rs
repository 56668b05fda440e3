//! Connection of Envoy to the control plane.

use std::path::Path;

use pilot_proto::mesh::proxy_config::{AuthenticationPolicy, ProxyConfig};

use super::address::HostPort;
use super::env::Variables;
use super::fault::Faults;
use super::files::Root;
use crate::cli::XdsMode;

/// The port that Istio's control planes serve plaintext on.
const PLAINTEXT_PORT: u16 = 15010;
/// Roots of the control plane as the injector mounts them.
const MOUNTED_ROOT: &str = "./var/run/secrets/istio/root-cert.pem";
/// Certificate, key and roots of a workload that brings its own.
const CERTS: [&str; 3] = ["./etc/certs/cert-chain.pem", "./etc/certs/key.pem", "./etc/certs/root-cert.pem"];
/// `XDS_ROOT_CA` of a control plane with a public certificate.
const SYSTEM: &str = "SYSTEM";

/// Connection of Envoy to the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum XdsTransport {
    /// Through the agent, which listens on this socket.
    Socket(String),
    /// Straight to it.
    Direct {
        /// `discoveryAddress`.
        address: HostPort,
        /// Security of the connection.
        security: XdsSecurity,
    },
}

/// Security of Envoy's connection to the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum XdsSecurity {
    /// Not at all.
    Plaintext,
    /// With TLS.
    Tls(XdsTls),
}

/// TLS towards the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct XdsTls {
    /// Roots it is verified with.
    pub(crate) roots: Roots,
    /// Files of certificate and key of a proxy that proves itself with a certificate.
    pub(crate) certificate: Option<(String, String)>,
    /// Names one of which it must prove.
    pub(crate) names: Vec<String>,
}

/// Roots of trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// A file.
    File(String),
    /// The operating system's.
    System,
}

// === impl XdsTransport ===

impl XdsTransport {
    pub(super) fn decide(
        choice: XdsMode,
        (proxy, variables, root): (&ProxyConfig, &Variables, &Root),
        names: &[String],
        faults: &mut Faults,
    ) -> Self {
        if choice == XdsMode::Socket {
            return Self::Socket(Path::new(&proxy.config_path).join("XDS").display().to_string());
        }
        let Ok(address) = proxy.discovery_address.parse::<HostPort>() else {
            // Noted where ProxyConfig is checked; the value is never used.
            return Self::Socket(String::new());
        };
        let plaintext =
            address.port == PLAINTEXT_PORT || proxy.control_plane_auth_policy == AuthenticationPolicy::None;
        let security = if plaintext {
            XdsSecurity::Plaintext
        } else {
            let [certificate, key, own_root] = CERTS;
            let owns = CERTS.iter().all(|file| root.has(file));
            let roots = match variables.xds_root_ca.as_deref() {
                Some(SYSTEM) => Roots::System,
                Some(file) => Roots::File(file.into()),
                None => Roots::File(if owns { own_root.into() } else { MOUNTED_ROOT.into() }),
            };
            if let Roots::File(file) = &roots
                && !root.has(file)
            {
                faults.configuration(
                    file.as_str(),
                    format!(
                        "there is no such file, and {address} is trusted by nothing else; set XDS_ROOT_CA, or use \
                         plaintext with port {PLAINTEXT_PORT} or controlPlaneAuthPolicy: NONE"
                    ),
                );
            }
            let certificate = owns.then(|| (certificate.to_owned(), key.to_owned()));
            XdsSecurity::Tls(XdsTls { roots, certificate, names: names.to_vec() })
        };
        Self::Direct { address, security }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(address: &str, root_ca: Option<&str>, files: &[&str]) -> (XdsTransport, Faults) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut faults = Faults::default();
        let environment = root_ca.into_iter().map(|file| ("XDS_ROOT_CA", file)).collect();
        let variables = Variables::read(&environment, &mut faults);
        let proxy = ProxyConfig { discovery_address: address.into(), ..ProxyConfig::defaults() };
        let inputs = (&proxy, &variables, &Root::new(folder.path()));
        (XdsTransport::decide(XdsMode::Direct, inputs, &["istiod".into()], &mut faults), faults)
    }

    #[test]
    fn port_15010_is_plaintext() {
        let (transport, faults) = decide("istiod:15010", None, &[]);
        assert_eq!(faults, Faults::default());
        assert!(matches!(transport, XdsTransport::Direct { security: XdsSecurity::Plaintext, .. }));
    }

    #[test]
    fn other_ports_are_tls_with_the_roots_there_are() {
        let file = |file: &str| Roots::File(file.into());
        for (root_ca, files, roots, certificate) in [
            (None, &[MOUNTED_ROOT][..], file(MOUNTED_ROOT), false),
            (None, &CERTS, file(CERTS[2]), true),
            (None, &[MOUNTED_ROOT, CERTS[0]], file(MOUNTED_ROOT), false),
            (Some("mine.pem"), &["mine.pem", CERTS[0], CERTS[1], CERTS[2]], file("mine.pem"), true),
            (Some("SYSTEM"), &[], Roots::System, false),
        ] {
            let (transport, faults) = decide("istiod:15012", root_ca, files);
            assert_eq!(faults, Faults::default(), "{files:?}");
            let XdsTransport::Direct { security: XdsSecurity::Tls(tls), .. } = transport else {
                panic!("{files:?}")
            };
            assert_eq!((tls.roots, tls.certificate.is_some()), (roots, certificate), "{files:?}");
        }
    }

    #[test]
    fn without_roots_the_way_out_is_told() {
        let (_, faults) = decide("istiod:15012", None, &[]);
        let line = faults.iter().next().unwrap().to_string();
        assert!(line.starts_with(MOUNTED_ROOT) && line.contains("XDS_ROOT_CA"), "{line}");
    }
}
