//! One request over one connection of its own, to a port or to a socket in the file system.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::HOST};
use http_body_util::{BodyExt, Collected, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::{AdminAddress, AdminError, MAX_BODY};

pub(super) fn request(method: Method, path: &str) -> Result<Request<Empty<Bytes>>, AdminError> {
    Ok(Request::builder().method(method).uri(path).header(HOST, "localhost").body(Empty::new())?)
}

pub(super) async fn send(
    address: &AdminAddress,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, AdminError> {
    match address {
        AdminAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(AdminError::Connect)?;
            exchange(stream, request).await
        }
        AdminAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(AdminError::Connect)?;
            exchange(stream, request).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, AdminError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response, or when the caller drops it; an error is that of the response.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender.send_request(request).await?)
}

pub(super) fn body_of(response: Response<Incoming>) -> Result<Incoming, AdminError> {
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(AdminError::Status(status)),
    }
}

pub(super) async fn collect(body: Incoming) -> Result<Bytes, AdminError> {
    let collected = Limited::new(body, MAX_BODY).collect().await;
    collected.map(Collected::to_bytes).map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => AdminError::Http(*error),
        Err(error) => {
            debug_assert!(error.is::<LengthLimitError>());
            AdminError::TooLong
        }
    })
}
