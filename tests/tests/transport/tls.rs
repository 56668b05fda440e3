//! xDS over TLS: server certificate, client certificate, and a replaced key pair.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use pilot_tests::net::{free_port, get_ok, local};
use pilot_tests::wait::eventually;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::control_plane::{ControlPlane, ControlPlaneOptions, TIMEOUT};

const IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/shop";

/// A certificate authority.
type Authority = CertifiedIssuer<'static, KeyPair>;

/// A certificate and its key, as PEM and as DER.
struct CertifiedKey {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn pair(authority: &Authority, name: SanType) -> Result<CertifiedKey> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.subject_alt_names = vec![name];
    let certificate = params.signed_by(&key, authority)?;
    Ok(CertifiedKey {
        certificate: certificate.der().clone(),
        certificate_pem: pem("CERTIFICATE", certificate.der()),
        key,
    })
}

fn server(authority: &Authority) -> Result<CertifiedKey> {
    pair(authority, SanType::DnsName("istiod.istio-system.svc".try_into()?))
}

fn client(authority: &Authority) -> Result<CertifiedKey> {
    pair(authority, SanType::URI(IDENTITY.try_into()?))
}

/// Connects with TLS and sends the HTTP/2 preface.
async fn tls_handshake(
    to: SocketAddr,
    trusts: &Authority,
    shows: Option<&CertifiedKey>,
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusts.der().clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match shows {
        None => config.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::Pkcs8(pair.key.serialized_der().to_vec().into());
            config.with_client_auth_cert(vec![pair.certificate.clone()], key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("istiod.istio-system.svc")?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "no h2");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&super::raw::frame(super::raw::SETTINGS, 0, 0, &[])).await?;
    // In TLS 1.3 the server verifies the client certificate after the client's handshake is done; its first frame shows success.
    let read = tokio::time::timeout(TIMEOUT, stream.read_exact(&mut [0; 9])).await;
    read.context("no settings came")??;
    Ok(stream)
}

/// A control plane with a key pair and a trusted root.
struct TlsControlPlane {
    plane: ControlPlane,
    to: SocketAddr,
    files: tempfile::TempDir,
}

impl TlsControlPlane {
    async fn start(shows: &CertifiedKey, trusts: &Authority) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let to = local(free_port()?);
        let path = |name: &str| files.path().join(name).display().to_string();
        let (certificate, key, roots) = (path("cert.pem"), path("key.pem"), path("root.pem"));
        fs::write(&certificate, &shows.certificate_pem)?;
        fs::write(&key, pem("PRIVATE KEY", shows.key.serialized_der()))?;
        fs::write(&roots, pem("CERTIFICATE", trusts.der()))?;
        let address = to.to_string();
        let flags = ["--secureGRPCAddr", &address, "--tlsCertFile", &certificate, "--tlsKeyFile", &key];
        let flags = [&flags[..], &["--caCertFile", &roots]].concat();
        let plane =
            ControlPlane::start(ControlPlaneOptions { flags: &flags, ..ControlPlaneOptions::default() })
                .await?;
        Ok(Self { plane, to, files })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_is_optional_and_verified() -> Result<()> {
    let (ours, theirs) = (authority()?, authority()?);
    let secure = TlsControlPlane::start(&server(&ours)?, &ours).await?;
    let _nobody = tls_handshake(secure.to, &ours, None).await?;
    let _shop = tls_handshake(secure.to, &ours, Some(&client(&ours)?)).await?;
    let peers = get_ok(secure.plane.monitoring, "/debug/grpc_connections").await?;
    let peers: Vec<serde_json::Value> = serde_json::from_str(&peers)?;
    let identities: Vec<&serde_json::Value> = peers.iter().map(|peer| &peer["identities"]).collect();
    ensure!(identities == [&serde_json::json!([]), &serde_json::json!([IDENTITY])], "{identities:?}");

    ensure!(
        tls_handshake(secure.to, &ours, Some(&client(&theirs)?)).await.is_err(),
        "an untrusted client certificate was accepted"
    );
    ensure!(tls_handshake(secure.to, &theirs, None).await.is_err(), "the test trusts any server certificate");
    secure.plane.wait_for_metric("pilot_grpc_connections_closed{reason=\"handshake\"} 2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn key_pair_is_reloaded_only_when_both_files_match() -> Result<()> {
    let (old, new) = (authority()?, authority()?);
    let secure = TlsControlPlane::start(&server(&old)?, &old).await?;
    let mut first = tls_handshake(secure.to, &old, None).await?;
    let next = server(&new)?;
    fs::write(secure.files.path().join("cert.pem"), &next.certificate_pem)?;
    let logged = eventually(TIMEOUT, "the log reports the mismatch", async || {
        let log = secure.plane.process.log();
        ensure!(log.contains("keeping the previous one"), "{log}");
        Ok(())
    });
    logged.await?;
    tls_handshake(secure.to, &old, None).await?;
    fs::write(secure.files.path().join("key.pem"), pem("PRIVATE KEY", next.key.serialized_der()))?;
    let served = eventually(TIMEOUT, "the new certificate is served", async || {
        tls_handshake(secure.to, &new, None).await
    });
    served.await?;
    // Open connections stay open.
    first.write_all(&super::raw::frame(super::raw::PING, 0, 0, &[1; 8])).await?;
    tokio::time::timeout(TIMEOUT, first.read_exact(&mut [0; 17])).await.context("no answer")??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_without_a_tls_handshake_is_closed() -> Result<()> {
    let ours = authority()?;
    let secure = TlsControlPlane::start(&server(&ours)?, &ours).await?;
    let mut mute = TcpStream::connect(secure.to).await?;
    let read = tokio::time::timeout(TIMEOUT, mute.read(&mut [0; 1]))
        .await
        .context("the connection is not closed")?;
    ensure!(read.is_ok_and(|bytes| bytes == 0), "data was sent");
    let page = get_ok(secure.plane.http, "/ready").await?;
    ensure!(page == "ready\n", "{page}");
    Ok(())
}
