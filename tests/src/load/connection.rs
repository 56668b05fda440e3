//! Connections: TCP or TLS, and HTTP of either version on them.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::report::{NotOk, REVISION};
use super::{Class, FailureKind, Load, tls};
use crate::upstream::ENDPOINT;

/// A bidirectional byte stream.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection that carries one HTTP request after the other.
pub(super) struct Connection {
    sender: Sender,
    task: JoinHandle<hyper::Result<()>>,
}

enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

/// Endpoint and proxy revision of an answer.
pub(super) struct AnswerOrigin {
    pub(super) endpoint: String,
    pub(super) revision: Option<u32>,
}

/// Opens a connection, with TLS if the load has TLS settings.
pub(super) async fn connect(load: &Load, to: SocketAddr) -> Result<Box<dyn Wire>> {
    let stream = TcpStream::connect(to).await.context("connect")?;
    stream.set_nodelay(true)?;
    match &load.tls {
        Some(connector) => Ok(Box::new(tls::tls_handshake(connector, &load.host, stream).await?)),
        None => Ok(Box::new(stream)),
    }
}

/// Returns true if this answer is the last on its connection.
pub(super) fn says_close(response: &Response<Incoming>) -> bool {
    let value = response.headers().get(header::CONNECTION);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Reads a response to its end.
pub(super) async fn read(response: Response<Incoming>) -> Result<AnswerOrigin> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("in the body")?.to_bytes();
    if head.status != StatusCode::OK {
        let body = String::from_utf8_lossy(&body);
        return Err(NotOk(format!("{} {}", head.status, body.trim())).into());
    }
    let endpoint = head.headers.get(ENDPOINT).context("an answer from no endpoint of ours")?;
    let revision = head.headers.get(REVISION).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(AnswerOrigin { endpoint: endpoint.to_str()?.to_owned(), revision })
}

// === impl Connection ===

impl Connection {
    /// Opens a connection in the HTTP version of the class.
    pub(super) async fn open(load: &Load, to: SocketAddr) -> Result<Self> {
        let stream = TokioIo::new(connect(load, to).await?);
        if load.class == Class::Http2 {
            let shaken = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) = shaken.context("HTTP/2 handshake")?;
            return Ok(Self { sender: Sender::Two(sender), task: tokio::spawn(connection) });
        }
        let (sender, connection) = http1::handshake(stream).await.context("HTTP/1.1 handshake")?;
        Ok(Self { sender: Sender::One(sender), task: tokio::spawn(connection) })
    }

    /// Sends one request. The outer error is local, the inner one is the connection's.
    pub(super) async fn send(&mut self, load: &Load) -> Result<hyper::Result<Response<Incoming>>> {
        let request = match self.sender {
            Sender::One(_) => Request::get(&load.path).header(header::HOST, &load.host),
            Sender::Two(_) => Request::get(format!("http://{}{}", load.host, load.path)),
        };
        let request = request.body(Empty::new())?;
        Ok(match &mut self.sender {
            Sender::One(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::Two(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        })
    }

    /// Waits until the server closes the connection.
    pub(super) async fn ended(self) -> FailureKind {
        // Dropping the sender would close the connection from this side.
        let Self { sender: _alive, task } = self;
        match task.await {
            Ok(Err(error)) => FailureKind::of(&error.into()),
            Ok(Ok(())) | Err(_) => FailureKind::Closed,
        }
    }
}
