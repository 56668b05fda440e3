//! TLS: the key pair and the CA of clients, read again when their files change, and whom a client's certificate names.
//!
//! What an identity may see is not decided here.

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

/// What the files say, watched.
struct Files {
    certificate: watch::Receiver<FileContent>,
    key: watch::Receiver<FileContent>,
    client_ca: Option<watch::Receiver<FileContent>>,
}

/// The configuration, now and whenever a file changes. Files that cannot be used are an error at first and a warning
/// later: a key pair is two files, and for a moment they may not belong together.
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
                // A proxy may have a token instead, as Istio's have: whoever shows a certificate shows a good one.
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

    /// Waits for a change of any file; false: nobody watches them any longer.
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

/// Whom a verified certificate names, in Istio's form of SPIFFE ids; other names are not ours to know.
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
