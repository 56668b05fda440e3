//! A client that sends requests one after the other, with a pause between them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::{self, AnswerOrigin, Connection};
use super::report::Failure;
use super::{Answer, Class, KeptConnections, Load, Report, TIMEOUT, Target};

/// Sends requests until the load is stopped.
pub(super) async fn request_repeatedly(
    load: Load,
    target: watch::Receiver<Target>,
    report: Arc<Mutex<Report>>,
) {
    let mut kept = None;
    let mut at = load.to;
    loop {
        let Target { to, kept: leaving, stop } = *target.borrow();
        if stop {
            return;
        }
        if to != at {
            at = to;
            if leaving == KeptConnections::Close {
                kept = None;
            }
        }
        let started = Instant::now();
        let answer = send_request(&load, to, &mut kept);
        let answer = timeout(TIMEOUT, answer).await.with_context(|| format!("no answer within {TIMEOUT:?}"));
        let answer = answer.flatten();
        if answer.is_err() {
            kept = None;
        }
        record(&report, started, answer);
        tokio::time::sleep(load.think).await;
    }
}

/// Adds the outcome of one request to the report.
pub(super) fn record(report: &Mutex<Report>, started: Instant, answer: Result<AnswerOrigin>) {
    let at = Instant::now();
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(AnswerOrigin { endpoint, revision }) => {
            report.answers.push(Answer { at, endpoint, revision, took: at - started });
        }
        Err(error) => report.failures.push(Failure::now(&error)),
    }
}

async fn send_request(load: &Load, to: SocketAddr, kept: &mut Option<Connection>) -> Result<AnswerOrigin> {
    if load.class == Class::Tcp {
        return echo(load, to).await;
    }
    loop {
        let fresh = kept.is_none();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(load, to).await?,
        };
        let response = match connection.send(load).await? {
            Ok(response) => response,
            // The server had closed the keep-alive connection before the request was written.
            Err(error) if !fresh && (error.is_canceled() || error.is_closed()) => continue,
            Err(error) => {
                return Err(error).context(if fresh { "new connection" } else { "kept connection" });
            }
        };
        let last = load.class == Class::New || connection::says_close(&response);
        let origin = connection::read(response).await?;
        if !last {
            *kept = Some(connection);
        }
        return Ok(origin);
    }
}

async fn echo(load: &Load, to: SocketAddr) -> Result<AnswerOrigin> {
    let mut stream = connection::connect(load, to).await?;
    stream.write_all(b"hello\n").await.context("write")?;
    let mut line = String::new();
    let read = BufReader::new(&mut stream).read_line(&mut line).await.context("read")?;
    if read == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context("closed before an answer");
    }
    endpoint_of(&line)
}

/// Returns the endpoint that echoed the line.
pub(super) fn endpoint_of(line: &str) -> Result<AnswerOrigin> {
    let endpoint = line.strip_suffix(" hello\n").with_context(|| format!("the echo is {line:?}"))?;
    Ok(AnswerOrigin { endpoint: endpoint.to_owned(), revision: None })
}
