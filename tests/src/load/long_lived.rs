//! Long-lived connections: tunnels, which carry a line now and then, and idle ones, which carry nothing after their first
//! request. Their ends are counted apart from failed requests; see the header of the parent module.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::client::{endpoint_of, record};
use super::connection::{self, AnswerOrigin, Connection, Wire};
use super::{ClientState, ConnectionEnd, FailureKind, Load, Report, TIMEOUT, Target};

/// Pause before another connection replaces one that ended.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Opens a tunnel, sends lines until it ends, and opens the next.
pub(super) async fn tunnel(load: Load, mut target: watch::Receiver<Target>, report: Arc<Mutex<Report>>) {
    loop {
        let Target { to, stop, .. } = *target.borrow();
        if stop {
            return;
        }
        let started = Instant::now();
        let opened = timeout(TIMEOUT, connection::connect(&load, to)).await.context("connect");
        match opened.flatten() {
            Ok(wire) => {
                if let Some(end) = send_lines(&load, wire, &mut target, &report).await {
                    report.lock().unwrap_or_else(PoisonError::into_inner).ends.push(end);
                }
            }
            Err(error) => record(&report, started, Err(error)),
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

/// Sends line after line. Returns the connection's end, or `None` if this client ended it.
async fn send_lines(
    load: &Load,
    wire: Box<dyn Wire>,
    target: &mut watch::Receiver<Target>,
    report: &Mutex<Report>,
) -> Option<ConnectionEnd> {
    let opened = Instant::now();
    let end = |how, client| Some(ConnectionEnd { at: Instant::now(), lasted: opened.elapsed(), how, client });
    let mut wire = BufReader::new(wire);
    loop {
        if target.borrow().stop {
            return None;
        }
        let started = Instant::now();
        let echoed = timeout(TIMEOUT, echo(&mut wire)).await;
        match echoed {
            Ok(Ok(line)) if line.ends_with('\n') => record(report, started, endpoint_of(&line)),
            // The connection ended before or in the echo.
            Ok(Ok(_)) => return end(FailureKind::Closed, ClientState::Waiting),
            Ok(Err(error)) => return end(FailureKind::of(&error.into()), ClientState::Waiting),
            Err(late) => {
                record(report, started, Err(late).context("no echo"));
                return None;
            }
        }
        // No data is expected now: whatever arrives is the end.
        tokio::select! {
            read = wire.fill_buf() => return end(
                match read {
                    Ok(_) => FailureKind::Closed,
                    Err(error) => FailureKind::of(&error.into()),
                },
                ClientState::Idle,
            ),
            () = sleep(load.think) => {}
            _ = target.wait_for(|target| target.stop) => return None,
        }
    }
}

async fn echo(wire: &mut BufReader<Box<dyn Wire>>) -> std::io::Result<String> {
    wire.write_all(b"hello\n").await?;
    wire.flush().await?;
    let mut line = String::new();
    wire.read_line(&mut line).await?;
    Ok(line)
}

/// Sends one request and keeps the connection; sends another after the connection has ended.
pub(super) async fn idle(load: Load, mut target: watch::Receiver<Target>, report: Arc<Mutex<Report>>) {
    loop {
        let Target { to, stop, .. } = *target.borrow();
        if stop {
            return;
        }
        let started = Instant::now();
        let connection = timeout(TIMEOUT, request_once(&load, to)).await.context("no answer").flatten();
        let opened = Instant::now();
        let (answer, connection) = match connection {
            Ok((origin, connection)) => (Ok(origin), connection),
            Err(error) => (Err(error), None),
        };
        record(&report, started, answer);
        if let Some(connection) = connection {
            let how = tokio::select! {
                how = connection.ended() => how,
                _ = target.wait_for(|target| target.stop) => return,
            };
            let end = ConnectionEnd {
                at: Instant::now(),
                lasted: opened.elapsed(),
                how,
                client: ClientState::Idle,
            };
            report.lock().unwrap_or_else(PoisonError::into_inner).ends.push(end);
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

async fn request_once(load: &Load, to: SocketAddr) -> Result<(AnswerOrigin, Option<Connection>)> {
    let mut connection = Connection::open(load, to).await?;
    let response = connection.send(load).await?.context("new connection")?;
    let last = connection::says_close(&response);
    let origin = connection::read(response).await?;
    Ok((origin, (!last).then_some(connection)))
}
