//! Connections that are held: tunnels, which carry a line now and then, and idle ones, which carry nothing after their first
//! request. How they end is counted apart from requests that failed; see the parent's header.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::client::{endpoint_of, note};
use super::connection::{self, Connection, Told, Wire};
use super::{Aim, End, Fault, Load, Moment, PATIENCE, Report};

/// How long a client waits before it opens another connection in the place of one that ended.
const BREATH: Duration = Duration::from_millis(20);

/// Opens a tunnel, sends lines until it ends, and opens the next.
pub(super) async fn tunnel(load: Load, mut aim: watch::Receiver<Aim>, report: Arc<Mutex<Report>>) {
    loop {
        let Aim { to, stop, .. } = *aim.borrow();
        if stop {
            return;
        }
        let asked = Instant::now();
        let opened = timeout(PATIENCE, connection::connect(&load, to)).await.context("connect");
        match opened.flatten() {
            Ok(wire) => {
                if let Some(end) = send_lines(&load, wire, &mut aim, &report).await {
                    report.lock().unwrap_or_else(PoisonError::into_inner).ends.push(end);
                }
            }
            Err(error) => note(&report, asked, Err(error)),
        }
        sleep(BREATH).await;
    }
}

/// Sends line after line; how the server ended it, or `None` when we did.
async fn send_lines(
    load: &Load,
    wire: Box<dyn Wire>,
    aim: &mut watch::Receiver<Aim>,
    report: &Mutex<Report>,
) -> Option<End> {
    let opened = Instant::now();
    let end = |how, moment| Some(End { at: Instant::now(), lasted: opened.elapsed(), how, moment });
    let mut wire = BufReader::new(wire);
    loop {
        if aim.borrow().stop {
            return None;
        }
        let asked = Instant::now();
        let echoed = timeout(PATIENCE, echo(&mut wire)).await;
        match echoed {
            Ok(Ok(line)) if line.ends_with('\n') => note(report, asked, endpoint_of(&line)),
            // Cut off before or in the echo.
            Ok(Ok(_)) => return end(Fault::Closed, Moment::Asked),
            Ok(Err(error)) => return end(Fault::of(&error.into()), Moment::Asked),
            Err(late) => {
                note(report, asked, Err(late).context("no echo"));
                return None;
            }
        }
        // Nobody owes us a byte now: whatever comes is the end.
        tokio::select! {
            read = wire.fill_buf() => return end(
                match read {
                    Ok(_) => Fault::Closed,
                    Err(error) => Fault::of(&error.into()),
                },
                Moment::Between,
            ),
            () = sleep(load.think) => {}
            _ = aim.wait_for(|aim| aim.stop) => return None,
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

/// Asks once and keeps the connection; asks again when it has ended.
pub(super) async fn idle(load: Load, mut aim: watch::Receiver<Aim>, report: Arc<Mutex<Report>>) {
    loop {
        let Aim { to, stop, .. } = *aim.borrow();
        if stop {
            return;
        }
        let asked = Instant::now();
        let held = timeout(PATIENCE, ask_once(&load, to)).await.context("no answer").flatten();
        let opened = Instant::now();
        let (answer, held) = match held {
            Ok((told, held)) => (Ok(told), held),
            Err(error) => (Err(error), None),
        };
        note(&report, asked, answer);
        if let Some(held) = held {
            let how = tokio::select! {
                how = held.ended() => how,
                _ = aim.wait_for(|aim| aim.stop) => return,
            };
            let end = End { at: Instant::now(), lasted: opened.elapsed(), how, moment: Moment::Between };
            report.lock().unwrap_or_else(PoisonError::into_inner).ends.push(end);
        }
        sleep(BREATH).await;
    }
}

async fn ask_once(load: &Load, to: SocketAddr) -> Result<(Told, Option<Connection>)> {
    let mut connection = Connection::open(load, to).await?;
    let response = connection.send(load).await?.context("new connection")?;
    let last = connection::says_close(&response);
    let told = connection::read(response).await?;
    Ok((told, (!last).then_some(connection)))
}
