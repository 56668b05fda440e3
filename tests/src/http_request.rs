//! One HTTP request on a connection of its own.

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

/// Time limit for one response on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP request.
#[derive(Clone)]
pub struct HttpRequest {
    to: SocketAddr,
    /// Inside TLS: the trusted certificate, and the server name to verify.
    tls: Option<(TlsConnector, String)>,
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
}

/// An HTTP response.
#[derive(Debug)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// Body as text.
    pub body: String,
    /// Time from the start of the connection to the end of the body.
    pub took: Duration,
}

// === impl HttpRequest ===

impl HttpRequest {
    /// Creates `GET <path>` for a host, to be sent to this address.
    pub fn get(to: SocketAddr, host: &str, path: &str) -> Self {
        Self { to, tls: None, method: Method::GET, host: host.into(), path: path.into(), headers: Vec::new() }
    }

    /// Sets the method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the request inside TLS, to a server that must prove this identity under this name.
    pub fn over_tls(self, server: &Identity, name: &str) -> Result<Self> {
        Ok(Self { tls: Some((server.connector(&["http/1.1"])?, name.to_owned())), ..self })
    }

    /// Sends the request and reads the response.
    pub async fn send(&self) -> Result<HttpResponse> {
        let began = Instant::now();
        let answer =
            timeout(TIMEOUT, self.exchange()).await.with_context(|| format!("no answer to {self:?}"))?;
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
    /// Returns the name of the workload that sent the response, or an empty text if the proxy sent it.
    pub fn server(&self) -> &str {
        self.header(SERVER)
    }

    /// Returns the value of a header, or an empty text if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns an error unless this workload answered with 200.
    pub fn ensure_ok_from(&self, server: &str) -> Result<()> {
        ensure!((self.status, self.server()) == (200, server), "{self:?}, not of {server}");
        Ok(())
    }
}
