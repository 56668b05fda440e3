//! `wait`: returns when Envoy is ready. As a container's `postStart` hook it holds the application back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http_body_util::Full;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Failure, block_on, http as client};
use crate::cli::WaitFlags;

/// Requests until the response is 200.
pub(crate) fn run(flags: &WaitFlags) -> Result<(), Failure> {
    Ok(block_on(wait(flags))??)
}

async fn wait(flags: &WaitFlags) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(flags.timeout_seconds.into());
    let mut last = anyhow::anyhow!("not asked");
    let ready = async {
        loop {
            match ask(flags).await {
                Ok(()) => return,
                Err(error) => last = error,
            }
            sleep(Duration::from_millis(flags.period_millis.into())).await;
        }
    };
    let ended = timeout_at(deadline, ready).await;
    match ended {
        Ok(()) => Ok(()),
        Err(_) => Err(last.context(format!("Envoy is not ready after {} s", flags.timeout_seconds))),
    }
}

async fn ask(flags: &WaitFlags) -> anyhow::Result<()> {
    let request = http::Request::get(flags.url.clone()).body(Full::default())?;
    let patience = Duration::from_millis(flags.request_timeout_millis.into());
    let asked = tokio::time::timeout(patience, client::send(request)).await;
    let response = asked.with_context(|| format!("{}: no answer within {patience:?}", flags.url))??;
    let (status, body) = (response.status(), String::from_utf8_lossy(response.body()));
    // The agent's response contains the reason; that of Envoy does not.
    let reason = body.lines().next().map(|reason| format!(": {}", reason.trim())).unwrap_or_default();
    ensure!(status == http::StatusCode::OK, "{}: {status}{reason}", flags.url);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::http::testing::serve;
    use super::*;

    fn flags(address: &str, timeout_seconds: u32) -> WaitFlags {
        let url = format!("http://{address}/healthz/ready").parse().unwrap();
        WaitFlags { timeout_seconds, request_timeout_millis: 500, period_millis: 1, url }
    }

    #[tokio::test]
    async fn readiness_is_waited_for() {
        let (address, server) = serve(&[
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ])
        .await;
        wait(&flags(&address, 60)).await.unwrap();
        assert_eq!(server.await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn the_last_answer_says_why_it_is_not_ready() {
        let (address, server) =
            serve(&["HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nwhy?\n"]).await;
        let error = ask(&flags(&address, 0)).await.unwrap_err();
        assert!(error.to_string().ends_with("503 Service Unavailable: why?"), "{error}");
        server.await.unwrap();
        let error = wait(&flags(&address, 0)).await.unwrap_err();
        assert!(error.to_string().contains("not ready after 0 s"), "{error}");
    }
}
