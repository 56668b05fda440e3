//! `request`: sends a request to Envoy's admin endpoint, or to the agent, inside the pod. `istioctl` runs it by `kubectl exec`
//! and parses standard output, which contains the response only.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{Failure, block_on, http as client};
use crate::cli::RequestFlags;

/// Time limit for the beginning of the response, and for each further part.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Maximum size of an error response in the message.
const EXCUSE: usize = 64 << 10;

/// Makes the request and prints the answer.
pub(crate) fn run(flags: &RequestFlags) -> Result<(), Failure> {
    let address = format!("localhost:{}", flags.debug_port);
    Ok(block_on(ask(&address, flags, &mut io::stdout().lock()))??)
}

/// Prints as it comes: a configuration of a hundred megabytes must not be held in the memory that Envoy's
/// container has.
async fn ask(address: &str, flags: &RequestFlags, out: &mut impl Write) -> anyhow::Result<()> {
    let method = flags.method.to_ascii_uppercase();
    let uri = format!("http://{address}/{}", flags.path.trim_start_matches('/'));
    let request = http::Request::builder().method(method.as_str()).uri(&uri);
    let request = request.body(Full::from(flags.body.clone())).with_context(|| format!("{method} {uri}"))?;
    let late = || format!("{method} {uri}: no answer within {TIMEOUT:?}");
    let response = timeout(TIMEOUT, client::open(request)).await.with_context(late)??;
    let status = response.status();
    let mut body = response.into_body();
    // `istioctl` requests paths that an older Envoy does not have, and evaluates "not found".
    if status.as_u16() > 399 && status != http::StatusCode::NOT_FOUND {
        let mut why = Vec::new();
        while let Some(data) = timeout(TIMEOUT, part(&mut body)).await.with_context(late)?? {
            why.extend_from_slice(&data);
            if why.len() > EXCUSE {
                break;
            }
        }
        bail!("{method} {uri}: {status}: {}", String::from_utf8_lossy(&why).trim());
    }
    while let Some(data) = timeout(TIMEOUT, part(&mut body)).await.with_context(late)?? {
        out.write_all(&data)?;
    }
    Ok(out.write_all(b"\n")?)
}

/// The next part of the answer; trailers are none.
async fn part(body: &mut Incoming) -> anyhow::Result<Option<bytes::Bytes>> {
    match body.frame().await {
        Some(frame) => Ok(Some(frame.context("read the answer")?.into_data().unwrap_or_default())),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::testing::serve;
    use super::*;

    fn flags(method: &str, path: &str) -> RequestFlags {
        let debug_port = std::num::NonZeroU16::MIN;
        RequestFlags { debug_port, method: method.into(), path: path.into(), body: String::new() }
    }

    #[tokio::test]
    async fn the_answer_is_given_and_not_found_is_an_answer() {
        for answer in [
            &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"],
            &["HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nhi"],
        ] {
            let (address, server) = serve(answer).await;
            let mut printed = Vec::new();
            ask(&address, &flags("get", "stats?x"), &mut printed).await.unwrap();
            assert_eq!(printed, b"hi\n");
            assert!(server.await.unwrap().remove(0).starts_with("GET /stats?x HTTP/1.1"));
        }
    }

    #[tokio::test]
    async fn other_failures_are_errors() {
        for (answer, method) in [
            (&["HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\nwhy?"], "GET"),
            (&["HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"], "GET"),
            (&[""], "G ET"),
        ] {
            let (address, _server) = serve(answer).await;
            let mut printed = Vec::new();
            assert!(ask(&address, &flags(method, "/"), &mut printed).await.is_err(), "{answer:?}");
            assert!(printed.is_empty(), "{answer:?}");
        }
    }
}
