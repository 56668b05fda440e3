//! Echo servers in the test process, which act as endpoints and send their name in every answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The response header with the name of the endpoint.
pub const ENDPOINT: &str = "x-endpoint";

/// Number of chunks of a slow body.
const CHUNKS: u32 = 15;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An endpoint. Dropping it closes its connections; [`Upstream::stop`] lets them finish.
pub struct Upstream {
    name: Arc<str>,
    address: SocketAddr,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
}

#[derive(Clone, Copy)]
enum Protocol {
    Http,
    Lines,
}

impl Upstream {
    /// Starts an endpoint for HTTP/1.1 and HTTP/2 with prior knowledge. It answers `<name> <method> <path> <host>`. `/delay/<ms>`
    /// delays the answer; for `/stream/<ms>` the body takes that long.
    pub async fn http(name: &str, address: SocketAddr) -> Result<Self> {
        Self::start(name, address, Protocol::Http).await
    }

    /// Starts an endpoint that answers each line with its name and the line.
    pub async fn tcp(name: &str, address: SocketAddr) -> Result<Self> {
        Self::start(name, address, Protocol::Lines).await
    }

    async fn start(name: &str, address: SocketAddr, protocol: Protocol) -> Result<Self> {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("endpoint {name} at {address}"))?;
        let name: Arc<str> = name.into();
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let server =
            tokio::spawn(accept(listener, protocol, Arc::clone(&name), Arc::clone(&counts), stopped));
        Ok(Self { name, address, counts, stop, server })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of accepted connections.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Returns the number of answered requests.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// Stops accepting connections and waits until the open ones are done.
    pub async fn stop(mut self, within: Duration) -> Result<()> {
        self.stop.send_replace(true);
        let name = Arc::clone(&self.name);
        tokio::time::timeout(within, &mut self.server).await.with_context(|| format!("{name} stops"))??;
        Ok(())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    name: Arc<str>,
    counts: Arc<Counts>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        // A connection that was reset before it was accepted does not count.
        let Ok(stream) = stream else { continue };
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let (name, counts, stop) = (Arc::clone(&name), Arc::clone(&counts), stop.clone());
        match protocol {
            Protocol::Http => connections.spawn(serve_http(stream, name, counts, stop)),
            Protocol::Lines => connections.spawn(serve_lines(stream, name, counts, stop)),
        };
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_http(stream: TcpStream, name: Arc<str>, counts: Arc<Counts>, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&name), Arc::clone(&counts)));
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Errors of a connection are counted by the client.
    tokio::select! {
        _ = &mut connection => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn answer(
    request: Request<Incoming>,
    name: Arc<str>,
    counts: Arc<Counts>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    if let Some(wait) = path.strip_prefix("/delay/").and_then(|ms| ms.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    counts.requests.fetch_add(1, Ordering::Relaxed);
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().host()).unwrap_or("-");
    let line = Bytes::from(format!("{name} {} {path} {host}\n", request.method()));
    let lasts = path.strip_prefix("/stream/").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    let mut response = Response::new(match lasts {
        Some(lasts) => slow_body(line, lasts),
        None => Full::from(line).boxed_unsync(),
    });
    if let Ok(value) = name.parse() {
        response.headers_mut().insert(ENDPOINT, value);
    }
    Ok(response)
}

/// Returns a body that repeats the line [`CHUNKS`] times over this duration.
fn slow_body(line: Bytes, lasts: Duration) -> Body {
    let chunks = stream::unfold(0, move |sent| {
        let line = line.clone();
        async move {
            if sent == CHUNKS {
                return None;
            }
            tokio::time::sleep(lasts / CHUNKS).await;
            Some((Ok(Frame::data(line)), sent + 1))
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}

async fn serve_lines(
    mut stream: TcpStream,
    name: Arc<str>,
    counts: Arc<Counts>,
    mut stop: watch::Receiver<bool>,
) {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok(Some(line)) = line else { return };
        counts.requests.fetch_add(1, Ordering::Relaxed);
        if write.write_all(format!("{name} {line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
