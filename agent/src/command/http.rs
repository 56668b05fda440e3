//! One HTTP request over plain TCP: what the small commands need of a client, and no more.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends the request to the host in its URI; the answer's body is read whole.
pub(super) async fn send(request: http::Request<Full<Bytes>>) -> anyhow::Result<http::Response<Bytes>> {
    let uri = request.uri().to_string();
    let (head, body) = open(request).await?.into_parts();
    let body = body.collect().await.with_context(|| uri)?.to_bytes();
    Ok(http::Response::from_parts(head, body))
}

/// The same; the answer's body, which may be of any length, is left to the caller.
pub(super) async fn open(request: http::Request<Full<Bytes>>) -> anyhow::Result<http::Response<Incoming>> {
    let uri = request.uri().clone();
    anyhow::ensure!(uri.scheme_str() == Some("http"), "{uri}: only http:// is spoken here");
    let host = uri.host().with_context(|| format!("{uri} has no host"))?.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.with_context(|| {
        format!("connect to {}", uri.authority().map_or(host, |authority| authority.as_str()))
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer; its error is the answer's.
    tokio::spawn(async { drop(connection.await) });
    let (mut parts, body) = request.into_parts();
    if let Some(authority) = uri.authority() {
        parts.headers.insert(http::header::HOST, authority.as_str().parse()?);
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse()?;
    sender.send_request(http::Request::from_parts(parts, body)).await.with_context(|| uri.to_string())
}

#[cfg(test)]
pub(super) mod testing {
    //! A server of canned answers.

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers each connection with the next answer, then is gone. Gives its address and, once it is done,
    /// the heads of the requests it saw.
    pub(in super::super) async fn serve(
        answers: &'static [&'static str],
    ) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (address, server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_sent_and_what_is_answered_is_read() {
        let (address, server) = testing::serve(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]).await;
        let request =
            http::Request::post(format!("http://{address}/a?b=c")).body(Full::from("body")).unwrap();
        let response = send(request).await.unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, b"ok".as_slice()));
        let seen = server.await.unwrap().remove(0);
        assert!(seen.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains(&format!("host: {address}\r\n")) && seen.ends_with("\r\n\r\nbody"), "{seen}");
    }

    #[tokio::test]
    async fn what_is_not_http_is_an_error() {
        let (address, _server) = testing::serve(&["", "220 smtp\r\n"]).await;
        for uri in [format!("http://{address}/"), format!("http://{address}/"), "https://localhost/".into()] {
            let request = http::Request::get(&uri).body(Full::default()).unwrap();
            assert!(send(request).await.is_err(), "{uri}");
        }
    }
}
