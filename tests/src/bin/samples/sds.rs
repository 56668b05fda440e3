//! SDS server at the socket that Envoy connects to: without a certificate, clusters and listeners that need one stay warming.
//! All workloads have the same certificate, because identities are not under test.

use std::path::Path;
use std::pin::Pin;

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _, future, stream};
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::{DataSource, data_source::Specifier};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use pilot_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use pilot_proto::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use pilot_proto::google::protobuf::Any;
use pilot_tests::load::Identity;
use prost::Message as _;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Path of the socket, relative to the proxy's working directory.
const SOCKET: &str = "var/run/secrets/workload-spiffe-uds/socket";

/// Secret name of the mesh's roots; every other name is a certificate.
const ROOTS: &str = "ROOTCA";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// SDS server for the proxy of one folder. Dropping it stops it.
pub(crate) struct SdsServer(JoinHandle<Result<(), tonic::transport::Error>>);

struct StaticSecrets(Identity);

// === impl SdsServer ===

impl SdsServer {
    /// Starts the server.
    pub(crate) fn start(folder: &Path, identity: &Identity) -> Result<Self> {
        let socket = folder.join(SOCKET);
        std::fs::create_dir_all(socket.parent().context("a folder")?)?;
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
        let connections = stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await.map(|(connection, _)| connection);
            Some((accepted, listener))
        });
        let service = SecretDiscoveryServiceServer::new(StaticSecrets(identity.clone()));
        Ok(Self(tokio::spawn(Server::builder().add_service(service).serve_with_incoming(connections))))
    }
}

impl Drop for SdsServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl StaticSecrets ===

#[tonic::async_trait]
impl SecretDiscoveryService for StaticSecrets {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("delta SDS is not supported"))
    }

    /// Answers requests; ACKs get no answer.
    async fn stream_secrets(
        &self,
        requests: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let identity = self.0.clone();
        let answers = requests.into_inner().filter_map(move |request| {
            future::ready(match request {
                Ok(request) if request.response_nonce.is_empty() => Some(Ok(answer(&identity, &request))),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("polling SDS is not supported"))
    }
}

fn answer(identity: &Identity, request: &DiscoveryRequest) -> DiscoveryResponse {
    let type_url = ResourceType::Secret.type_url();
    let secrets = request.resource_names.iter().map(|name| secret(identity, name));
    let resources =
        secrets.map(|secret| Any { type_url: type_url.to_owned(), value: secret.encode_to_vec().into() });
    DiscoveryResponse {
        version_info: "1".to_owned(),
        nonce: "1".to_owned(),
        type_url: type_url.to_owned(),
        resources: resources.collect(),
        ..DiscoveryResponse::default()
    }
}

fn secret(identity: &Identity, name: &str) -> Secret {
    let inline = |pem: &str| {
        Some(DataSource { specifier: Some(Specifier::InlineString(pem.to_owned())), ..DataSource::default() })
    };
    let (certificate, key) = (inline(&identity.certificate_pem), inline(&identity.key_pem));
    let held = if name == ROOTS {
        secret::Type::ValidationContext(CertificateValidationContext {
            trusted_ca: certificate,
            ..CertificateValidationContext::default()
        })
    } else {
        secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: certificate,
            private_key: key,
            ..TlsCertificate::default()
        })
    };
    Secret { name: name.to_owned(), r#type: Some(held) }
}
