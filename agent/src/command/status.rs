//! `status`: prints the lifecycle state of the sidecar; `--json` prints the agent's response.

mod page;

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::Full;

use super::{Failure, block_on, http as client};
use crate::cli::StatusFlags;
use crate::lifecycle::{Lifecycle, Timestamp};

/// Readiness may have to ask a large Envoy.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Requests and prints the state.
pub(crate) fn run(flags: &StatusFlags) -> Result<(), Failure> {
    let address = format!("localhost:{}", flags.port);
    let asked = block_on(async { tokio::time::timeout(TIMEOUT, ask(&address)).await })?;
    let json = asked.with_context(|| format!("{address}: no answer within {TIMEOUT:?}"))??;
    let text = if flags.json {
        json
    } else {
        let lifecycle: Lifecycle = serde_json::from_slice(&json).context("read what the agent answers")?;
        page::render(&lifecycle, Timestamp::now()).into()
    };
    Ok(std::io::stdout().write_all(&text)?)
}

async fn ask(address: &str) -> anyhow::Result<Bytes> {
    let request = http::Request::get(format!("http://{address}/lifecycle")).body(Full::default())?;
    let (head, body) = client::send(request).await?.into_parts();
    let why = || String::from_utf8_lossy(&body).trim().to_owned();
    ensure!(head.status == http::StatusCode::OK, "{address}: {}: {}", head.status, why());
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::super::http::testing::serve;
    use super::*;

    #[tokio::test]
    async fn the_agents_answer_is_given_and_its_refusal_told() {
        let (address, server) = serve(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]).await;
        assert_eq!(ask(&address).await.unwrap(), "{}");
        assert!(server.await.unwrap().remove(0).starts_with("GET /lifecycle HTTP/1.1"));
        let (address, _server) = serve(&["HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nwhy?"]).await;
        let error = ask(&address).await.unwrap_err().to_string();
        assert!(error.ends_with("403 Forbidden: why?"), "{error}");
    }
}
