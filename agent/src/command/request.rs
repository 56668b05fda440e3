//! `request`: asks Envoy's admin, or the agent, from inside the pod. `istioctl` runs it through
//! `kubectl exec` and parses what it prints, so that nothing but the answer goes to standard output.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::Full;

use super::{Failure, block_on, http as client};
use crate::cli::RequestFlags;

const TIMEOUT: Duration = Duration::from_mins(1);

/// Makes the request and prints the answer.
pub fn run(flags: &RequestFlags) -> Result<(), Failure> {
    let address = format!("localhost:{}", flags.debug_port);
    let asked = block_on(async { tokio::time::timeout(TIMEOUT, ask(&address, flags)).await })?;
    let mut answer = asked.with_context(|| format!("no answer within {TIMEOUT:?}"))??.to_vec();
    answer.push(b'\n');
    Ok(std::io::stdout().write_all(&answer)?)
}

async fn ask(address: &str, flags: &RequestFlags) -> anyhow::Result<Bytes> {
    let method = flags.method.to_ascii_uppercase();
    let uri = format!("http://{address}/{}", flags.path.trim_start_matches('/'));
    let request = http::Request::builder().method(method.as_str()).uri(&uri);
    let request = request.body(Full::from(flags.body.clone())).with_context(|| format!("{method} {uri}"))?;
    let response = client::send(request).await?;
    let (status, body) = (response.status(), response.into_body());
    // `istioctl` asks for what an older Envoy may not have, and reads "not found" itself.
    if status.as_u16() > 399 && status != http::StatusCode::NOT_FOUND {
        bail!("{method} {uri}: {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
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
            assert_eq!(ask(&address, &flags("get", "stats?x")).await.unwrap(), "hi");
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
            assert!(ask(&address, &flags(method, "/")).await.is_err(), "{answer:?}");
        }
    }
}
