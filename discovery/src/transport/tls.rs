//! TLS: key pair and CA of clients, reloaded when their files change, and identities of client certificates.
//!
//! Authorization is not decided here.

use std::sync::Arc;

use anyhow::Context as _;
use pilot_proto::identity::SpiffeId;
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tracing::{info, warn};

use crate::config::Secure;
use crate::source::file::single_file::{FileContent, watch_file};

/// Watched files.
struct Files {
    certificate: watch::Receiver<FileContent>,
    key: watch::Receiver<FileContent>,
    client_ca: Option<watch::Receiver<FileContent>>,
}

/// Returns the configuration and its changes. Unusable files are an error at the start and a warning later: a key pair is two
/// files, and for a moment they may not match.
pub(crate) fn follow(secure: &Secure) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
    let mut files = Files {
        certificate: watch_file(&secure.certificate),
        key: watch_file(&secure.key),
        client_ca: secure.client_ca.as_deref().map(watch_file),
    };
    let (sender, receiver) = watch::channel(Arc::new(files.read()?));
    tokio::spawn(async move {
        while files.changed().await {
            match files.read() {
                Ok(config) => {
                    info!("TLS key pair loaded");
                    if sender.send(Arc::new(config)).is_err() {
                        return;
                    }
                }
                Err(error) => warn!("TLS key pair rejected; keeping the previous one: {error:#}"),
            }
        }
    });
    Ok(receiver)
}

// === impl Files ===

impl Files {
    fn read(&mut self) -> anyhow::Result<ServerConfig> {
        let certificate = text(&mut self.certificate).context("--tlsCertFile")?;
        let chain = certificates(&certificate).context("--tlsCertFile")?;
        let key = text(&mut self.key).context("--tlsKeyFile")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| anyhow::anyhow!("--tlsKeyFile: no private key in PEM: {error}"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("choose versions of TLS")?;
        let builder = match &mut self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(&text(ca).context("--caCertFile")?).context("--caCertFile")? {
                    roots.add(root).context("--caCertFile: take a root certificate")?;
                }
                // A certificate is optional: Istio's proxies may present a token instead.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .context("--caCertFile")?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .context("--tlsCertFile and --tlsKeyFile: use the key pair")?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// Waits for a change of any file; `false` if watching has ended.
    async fn changed(&mut self) -> bool {
        let client_ca = async {
            match &mut self.client_ca {
                Some(ca) => ca.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.certificate.changed() => changed.is_ok(),
            changed = self.key.changed() => changed.is_ok(),
            changed = client_ca => changed.is_ok(),
        }
    }
}

fn text(file: &mut watch::Receiver<FileContent>) -> anyhow::Result<Arc<str>> {
    match &*file.borrow_and_update() {
        FileContent::Text(text) => Ok(text.clone()),
        FileContent::Missing => anyhow::bail!("cannot be read"),
    }
}

fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| anyhow::anyhow!("not PEM: {error}"))?;
    anyhow::ensure!(!read.is_empty(), "no certificate in it");
    Ok(read)
}

/// Returns the SPIFFE ids of a verified certificate in Istio's form; other names are ignored.
pub(super) fn identities(chain: &[CertificateDer<'_>]) -> Vec<SpiffeId> {
    let Some(leaf) = chain.first() else { return Vec::new() };
    match webpki::EndEntityCert::try_from(leaf) {
        Ok(leaf) => leaf.valid_uri_names().filter_map(|uri| uri.parse().ok()).collect(),
        Err(error) => {
            warn!(%error, "verified certificate cannot be parsed");
            Vec::new()
        }
    }
}
