//! One request at a time, on a connection of its own.

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::load::{Identity, tls_handshake};
use crate::workload::SERVER;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked.
#[derive(Clone)]
pub struct HttpRequest {
    to: SocketAddr,
    /// Inside TLS: who is believed, and the name that is asked for.
    tls: Option<(TlsConnector, String)>,
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Debug)]
pub struct HttpResponse {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// How long it took, with the connection.
    pub took: Duration,
}

// === impl HttpRequest ===

impl HttpRequest {
    /// `GET <path>` of a host, of whoever listens there.
    pub fn get(to: SocketAddr, host: &str, path: &str) -> Self {
        Self { to, tls: None, method: Method::GET, host: host.into(), path: path.into(), headers: Vec::new() }
    }

    /// The same by another method.
    #[must_use]
    pub fn by(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same inside TLS, of whoever shows this identity when he is asked for this name.
    pub fn over_tls(self, server: &Identity, name: &str) -> Result<Self> {
        Ok(Self { tls: Some((server.connector(&["http/1.1"])?, name.to_owned())), ..self })
    }

    /// Asks.
    pub async fn send(&self) -> Result<HttpResponse> {
        let began = Instant::now();
        let answer =
            timeout(PATIENCE, self.exchange()).await.with_context(|| format!("no answer to {self:?}"))?;
        let (head, body) = answer.with_context(|| format!("{self:?}"))?;
        Ok(HttpResponse {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            took: began.elapsed(),
        })
    }

    async fn exchange(&self) -> Result<(http::response::Parts, Bytes)> {
        let stream = TcpStream::connect(self.to).await.context("connect")?;
        match &self.tls {
            None => self.over(stream).await,
            Some((connector, name)) => self.over(tls_handshake(connector, name, stream).await?).await,
        }
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(http::response::Parts, Bytes)> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(&self.method).uri(&self.path).header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok((head, body))
    }
}

impl Debug for HttpRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { to, tls, method, host, path, headers } = self;
        let name = tls.as_ref().map_or("", |(_, name)| name);
        write!(f, "{method} {path} of {host} at {to} {name} {headers:?}")
    }
}

// === impl HttpResponse ===

impl HttpResponse {
    /// The workload that answered; nothing: the proxy did.
    pub fn server(&self) -> &str {
        self.header(SERVER)
    }

    /// A header; nothing if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// An error unless this workload answered 200.
    pub fn ensure_ok_from(&self, server: &str) -> Result<()> {
        ensure!((self.status, self.server()) == (200, server), "{self:?}, not of {server}");
        Ok(())
    }
}
