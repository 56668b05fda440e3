//! The floor: a server that sends precomputed bytes, one shared block for all streams, with the same stack as pilot-discovery:
//! tonic's router, a body of `Bytes`. It is a lower bound for a server of real configuration.
//!
//! The floor runs in a process of its own, of this same program. A line on standard input is a [`Block`]. Each line is answered
//! with the time of its broadcast.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Frame;
use pilot_proto::envoy::config::cluster::v3::{Cluster, cluster};
use pilot_proto::envoy::config::core::v3::Locality;
use pilot_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use pilot_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use pilot_proto::google::protobuf::Any;
use pilot_tests::fleet::{Codec, Kind, now};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tonic::body::Body;
use tonic::codec::Codec as _;
use tonic::server::NamedService;
use tonic::transport::server::Connected;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

/// The command line argument that starts the floor.
pub(crate) const ARGUMENT: &str = "floor";

/// Resources to broadcast.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Block {
    /// Clusters or endpoints.
    pub(crate) kind: Kind,
    /// Number of resources.
    pub(crate) resources: u64,
    /// Total size in bytes.
    pub(crate) bytes: u64,
    pub(crate) codec: Codec,
    pub(crate) recipients: Recipients,
}

/// Recipients of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recipients {
    /// All connected clients.
    Connected,
    /// Clients that subscribe to the type from now on.
    Subscribing,
}

/// Listening address of the floor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listen {
    pub(crate) at: SocketAddr,
    /// Certificate and key as PEM, for TLS.
    pub(crate) identity: Option<(String, String)>,
}

#[derive(Clone)]
struct Floor {
    blocks: Arc<Mutex<BTreeMap<Kind, Bytes>>>,
    news: broadcast::Sender<Bytes>,
}

/// Serves until standard input ends.
pub(crate) fn run(listen: Option<&str>) -> Result<()> {
    let listen: Listen = serde_json::from_str(listen.context("missing listen address")?)
        .context("parse the listen address")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let floor = Floor { blocks: Arc::default(), news: broadcast::Sender::new(16) };
    runtime.spawn(serve(floor.clone(), listen));
    for line in std::io::stdin().lines() {
        let block: Block = serde_json::from_str(&line?).context("parse a block")?;
        let at = now();
        let bytes = block.framed();
        match block.recipients {
            // Without connected clients there are no receivers.
            Recipients::Connected => drop(floor.news.send(bytes)),
            Recipients::Subscribing => {
                let mut blocks = floor.blocks.lock().unwrap_or_else(PoisonError::into_inner);
                blocks.insert(block.kind, bytes);
            }
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", json!({"at": at}))?;
        out.flush()?;
    }
    runtime.shutdown_background();
    Ok(())
}

async fn serve(floor: Floor, listen: Listen) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(listen.at).await.context("bind the address of the floor")?;
    let builder = tonic::transport::Server::builder();
    let mut server = builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
    let router = server.add_service(floor);
    let acceptor = listen.identity.map(|(certificate, key)| acceptor(&certificate, &key)).transpose()?;
    let (sender, mut receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket.set_nodelay(true));
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                let link: Option<Box<dyn Socket>> = match acceptor {
                    None => Some(Box::new(socket)),
                    Some(acceptor) => match acceptor.accept(socket).await {
                        Ok(stream) => Some(Box::new(stream)),
                        Err(_) => None,
                    },
                };
                if let Some(link) = link {
                    drop(sender.send(std::io::Result::Ok(Link(link))).await);
                }
            });
        }
    });
    let incoming = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    router.serve_with_incoming(incoming).await.context("serve the floor")
}

fn acceptor(certificate: &str, key: &str) -> Result<tokio_rustls::TlsAcceptor> {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).context("read a certificate")?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("read a key")?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let mut config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config).into())
}

trait Socket: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Socket for T {}

/// A connection, with TLS or without.
struct Link(Box<dyn Socket>);

impl Connected for Link {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

// === impl Block ===

impl Block {
    /// Encodes the response with gRPC's prefix.
    fn framed(&self) -> Bytes {
        let each = usize::try_from(self.bytes / self.resources.max(1)).unwrap_or_default();
        let resources = (0..self.resources).map(|index| (format!("outbound|80||service-{index}"), each));
        let type_url = self.kind.resource_type().type_url().to_owned();
        let version = format!("floor-{:016}", now());
        let any = |(name, size): &(String, usize)| Any {
            type_url: type_url.clone(),
            value: body(self.kind, name, size.saturating_sub(name.len() + type_url.len() + 40)).into(),
        };
        let message = match self.codec {
            Codec::Sotw => DiscoveryResponse {
                version_info: version.clone(),
                nonce: version,
                resources: resources.map(|one| any(&one)).collect(),
                type_url: type_url.clone(),
                ..Default::default()
            }
            .encode_to_vec(),
            Codec::Delta => DeltaDiscoveryResponse {
                system_version_info: version.clone(),
                nonce: version.clone(),
                resources: resources
                    .map(|one| Resource {
                        resource: Some(any(&one)),
                        name: one.0,
                        version: version.clone(),
                        ..Default::default()
                    })
                    .collect(),
                type_url: type_url.clone(),
                ..Default::default()
            }
            .encode_to_vec(),
        };
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        framed.extend_from_slice(&message);
        framed.freeze()
    }
}

/// Returns a resource with this name, padded to the requested size.
fn body(kind: Kind, name: &str, padding: usize) -> Vec<u8> {
    let padding = "x".repeat(padding);
    if kind == Kind::Cds {
        let discovery = cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds.into());
        let cluster = Cluster {
            name: name.into(),
            alt_stat_name: padding,
            cluster_discovery_type: Some(discovery),
            ..Default::default()
        };
        return cluster.encode_to_vec();
    }
    let locality = Some(Locality { region: padding, ..Default::default() });
    let endpoints = vec![LocalityLbEndpoints { locality, ..Default::default() }];
    ClusterLoadAssignment { cluster_name: name.into(), endpoints, ..Default::default() }.encode_to_vec()
}

// === impl Floor ===

impl NamedService for Floor {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower::Service<Request<Body>> for Floor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (sender, inbox) = mpsc::channel(4);
        let delta = request.uri().path().ends_with("/DeltaAggregatedResources");
        let (floor, body) = (self.clone(), request.into_body());
        if delta {
            tokio::spawn(async move {
                let type_and_nonce =
                    |request: DeltaDiscoveryRequest| (request.type_url, request.response_nonce);
                floor.answer(streaming(body), type_and_nonce, sender).await
            });
        } else {
            tokio::spawn(async move {
                let type_and_nonce = |request: DiscoveryRequest| (request.type_url, request.response_nonce);
                floor.answer(streaming(body), type_and_nonce, sender).await
            });
        }
        let mut response = Response::new(Body::new(Answers(inbox)));
        let grpc = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
        ready(Ok(response))
    }
}

fn streaming<M: Message + Default + 'static>(body: Body) -> Streaming<M> {
    Streaming::new_request(ProstCodec::<M, M>::default().decoder(), body, None, Some(4 << 20))
}

impl Floor {
    async fn answer<M>(
        self,
        mut requests: Streaming<M>,
        type_and_nonce: impl Fn(M) -> (String, String),
        sender: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let mut news = self.news.subscribe();
        loop {
            let next = tokio::select! {
                request = requests.message() => {
                    let Some(request) = request? else { return Ok(()) };
                    let (type_url, nonce) = type_and_nonce(request);
                    let kind = Kind::ALL.into_iter().find(|kind| kind.resource_type().type_url() == type_url);
                    let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
                    kind.filter(|_| nonce.is_empty()).and_then(|kind| blocks.get(&kind).cloned())
                }
                block = news.recv() => Some(block?),
            };
            if let Some(bytes) = next {
                sender.send(bytes).await?;
            }
        }
    }
}

/// A response body that consists of framed messages.
struct Answers(mpsc::Receiver<Bytes>);

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
