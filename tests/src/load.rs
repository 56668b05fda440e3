//! Load that counts every failure.
//!
//! ```text
//! KeepAlive   HTTP/1.1, one connection as long as the server lets it; honours `connection: close`
//! New         HTTP/1.1, a connection for each request
//! Http2       prior knowledge, one connection, several streams; honours GOAWAY
//! Tcp         one line and its echo, a connection for each
//! ```
//!
//! A request has failed when its connection was refused, reset or timed out, when it ended before or in the answer, or when the
//! answer was not 200. Nothing is tried again, with one exception that is no second try: a request that found its kept
//! connection closed before a byte of it was sent goes out on a new one. Which endpoint answered, and when, is kept for every request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::upstream::ENDPOINT;

/// How long one request may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How clients use their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// HTTP/1.1 on a kept connection.
    KeepAlive,
    /// HTTP/1.1, a connection for each request.
    New,
    /// HTTP/2 with prior knowledge; each client is a stream of its own connection.
    Http2,
    /// A line and its echo, a connection for each.
    Tcp,
}

/// What is asked, by how many, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    /// How connections are used.
    pub class: Class,
    /// Where requests go.
    pub to: SocketAddr,
    /// The `host` of HTTP requests.
    pub host: String,
    /// The path of HTTP requests.
    pub path: String,
    /// How many ask at the same time.
    pub clients: usize,
    /// How long each thinks between an answer and its next request.
    pub think: Duration,
}

impl Load {
    /// Two clients that think for 5 ms: enough to see a gap of some milliseconds, and little beside an Envoy on the same cores.
    pub fn new(class: Class, to: SocketAddr, host: &str) -> Self {
        Self {
            class,
            to,
            host: host.to_owned(),
            path: "/".to_owned(),
            clients: 2,
            think: Duration::from_millis(5),
        }
    }

    /// Starts asking.
    pub fn start(self) -> Running {
        let (aim, aimed) = watch::channel(Aim { to: self.to, stop: false });
        let report = Arc::new(Mutex::new(Report::default()));
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            clients.spawn(client(self.clone(), aimed.clone(), Arc::clone(&report)));
        }
        Running { aim, report, clients }
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was complete.
    pub at: Instant,
    /// Which endpoint gave it.
    pub endpoint: String,
    /// How long it took.
    pub took: Duration,
}

/// One request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// Why.
    pub reason: String,
}

/// What came of it so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every answer, in order.
    pub answers: Vec<Answer>,
    /// Every failure, in order.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Several reports as one, in order of time.
    pub fn merge(reports: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for report in reports {
            all.answers.extend(report.answers);
            all.failures.extend(report.failures);
        }
        all.answers.sort_by_key(|answer| answer.at);
        all.failures.sort_by_key(|failure| failure.at);
        all
    }

    /// Answers by endpoint.
    pub fn by_endpoint(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(answer.endpoint.as_str()).or_default() += 1;
        }
        counts
    }

    /// When an endpoint answered first since `after`.
    pub fn first(&self, endpoint: &str, after: Instant) -> Option<Instant> {
        self.answers
            .iter()
            .find(|answer| answer.at > after && answer.endpoint == endpoint)
            .map(|answer| answer.at)
    }

    /// When an endpoint answered last.
    pub fn last(&self, endpoint: &str) -> Option<Instant> {
        self.answers.iter().rfind(|answer| answer.endpoint == endpoint).map(|answer| answer.at)
    }

    /// An error with the reasons if any request failed, or if none was answered at all.
    pub fn faultless(&self) -> Result<()> {
        ensure!(!self.answers.is_empty() || !self.failures.is_empty(), "nothing was asked");
        let Some(first) = self.failures.first() else { return Ok(()) };
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for failure in &self.failures {
            *reasons.entry(&failure.reason).or_default() += 1;
        }
        let (failed, all) = (self.failures.len(), self.failures.len() + self.answers.len());
        bail!("{failed} of {all} requests failed, first {:?} ago: {reasons:?}", first.at.elapsed())
    }
}

#[derive(Clone, Copy)]
struct Aim {
    to: SocketAddr,
    stop: bool,
}

/// Load that goes on until it is stopped.
pub struct Running {
    aim: watch::Sender<Aim>,
    report: Arc<Mutex<Report>>,
    clients: JoinSet<()>,
}

impl Running {
    /// What came of it so far.
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends requests elsewhere from now on, as a load balancer does that has heard of a leaving endpoint: those under way
    /// finish where they are.
    pub fn move_to(&self, to: SocketAddr) {
        self.aim.send_modify(|aim| aim.to = to);
    }

    /// Lets every request under way finish, and starts none.
    pub async fn stop(mut self) -> Result<Report> {
        self.aim.send_modify(|aim| aim.stop = true);
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client of the load")?;
        }
        Ok(self.report())
    }
}

async fn client(load: Load, aim: watch::Receiver<Aim>, report: Arc<Mutex<Report>>) {
    let mut kept = Kept::Nothing;
    let mut at = load.to;
    loop {
        let Aim { to, stop } = *aim.borrow();
        if stop {
            return;
        }
        if to != at {
            (kept, at) = (Kept::Nothing, to);
        }
        let asked = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, ask(&load, to, &mut kept)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")));
        let now = Instant::now();
        {
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(endpoint) => report.answers.push(Answer { at: now, endpoint, took: now - asked }),
                Err(error) => {
                    kept = Kept::Nothing;
                    report.failures.push(Failure { at: now, reason: format!("{error:#}") });
                }
            }
        }
        tokio::time::sleep(load.think).await;
    }
}

/// The connection a client keeps between requests.
enum Kept {
    Nothing,
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

async fn ask(load: &Load, to: SocketAddr, kept: &mut Kept) -> Result<String> {
    if load.class == Class::Tcp {
        return echo(to).await;
    }
    loop {
        let fresh = matches!(kept, Kept::Nothing);
        if fresh {
            *kept = open(load.class, to).await?;
        }
        let sent = match kept {
            Kept::One(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request(load)?).await,
                Err(error) => Err(error),
            },
            Kept::Two(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request(load)?).await,
                Err(error) => Err(error),
            },
            Kept::Nothing => bail!("no connection"),
        };
        let response = match sent {
            Ok(response) => response,
            // The server had closed the kept connection before we wrote to it.
            Err(error) if !fresh && (error.is_canceled() || error.is_closed()) => {
                *kept = Kept::Nothing;
                continue;
            }
            Err(error) => {
                return Err(error).context(if fresh { "new connection" } else { "kept connection" });
            }
        };
        let last = load.class == Class::New || says_close(&response);
        let endpoint = read(response).await?;
        if last {
            *kept = Kept::Nothing;
        }
        return Ok(endpoint);
    }
}

async fn open(class: Class, to: SocketAddr) -> Result<Kept> {
    let stream = TcpStream::connect(to).await.context("connect")?;
    stream.set_nodelay(true)?;
    // A connection's own end is seen by the requests on it.
    if class == Class::Http2 {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("HTTP/2 handshake")?;
        tokio::spawn(connection);
        return Ok(Kept::Two(sender));
    }
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("HTTP/1.1 handshake")?;
    tokio::spawn(connection);
    Ok(Kept::One(sender))
}

fn request(load: &Load) -> Result<Request<Empty<Bytes>>> {
    let request = match load.class {
        Class::Http2 => Request::get(format!("http://{}{}", load.host, load.path)),
        _ => Request::get(&load.path).header(http::header::HOST, &load.host),
    };
    Ok(request.body(Empty::new())?)
}

fn says_close(response: &http::Response<Incoming>) -> bool {
    response
        .headers()
        .get(http::header::CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Reads a response to its end; the endpoint that sent it.
async fn read(response: http::Response<Incoming>) -> Result<String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("in the body")?.to_bytes();
    ensure!(head.status == http::StatusCode::OK, "{} {}", head.status, String::from_utf8_lossy(&body).trim());
    let endpoint = head.headers.get(ENDPOINT).context("an answer from no endpoint of ours")?;
    Ok(endpoint.to_str()?.to_owned())
}

async fn echo(to: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(to).await.context("connect")?;
    stream.write_all(b"hello\n").await.context("write")?;
    let mut line = String::new();
    let read = BufReader::new(&mut stream).read_line(&mut line).await.context("read")?;
    ensure!(read > 0, "closed before an answer");
    let endpoint = line.strip_suffix(" hello\n").with_context(|| format!("the echo is {line:?}"))?;
    Ok(endpoint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{free_port, local};
    use crate::upstream::Upstream;
    use crate::wait::eventually;

    async fn answered(running: &Running, endpoint: &str, times: usize) {
        eventually(PATIENCE, "answers", async || {
            let report = running.report();
            report.faultless()?;
            ensure!(report.by_endpoint().get(endpoint).is_some_and(|n| *n >= times), "not yet");
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn every_class_uses_connections_in_its_own_way() {
        for (class, kept) in
            [(Class::KeepAlive, true), (Class::Http2, true), (Class::New, false), (Class::Tcp, false)]
        {
            let to = local(free_port().unwrap());
            let upstream = match class {
                Class::Tcp => Upstream::tcp("a", to).await.unwrap(),
                _ => Upstream::http("a", to).await.unwrap(),
            };
            let running = Load::new(class, to, "a.example").start();
            answered(&running, "a", 20).await;
            let report = running.stop().await.unwrap();
            let expected = if kept { 2 } else { u64::try_from(report.answers.len()).unwrap() };
            assert_eq!((class, upstream.connections()), (class, expected));
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_gracefully_loses_nothing_when_the_load_moves() {
        for class in [Class::KeepAlive, Class::Http2, Class::New] {
            let (old, new) = (local(free_port().unwrap()), local(free_port().unwrap()));
            let (a, _b) = (Upstream::http("a", old).await.unwrap(), Upstream::http("b", new).await.unwrap());
            let running = Load::new(class, old, "a.example").start();
            answered(&running, "a", 10).await;
            running.move_to(new);
            answered(&running, "b", 10).await;
            a.stop(PATIENCE).await.unwrap();
            let report = running.stop().await.unwrap();
            assert!(report.last("a") < report.first("b", report.last("a").unwrap()), "{class:?}");
            report.faultless().unwrap();
        }
    }

    #[tokio::test]
    async fn failures_are_counted_with_their_reason() {
        let to = local(free_port().unwrap());
        let running = Load::new(Class::New, to, "a.example").start();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let report = running.stop().await.unwrap();
        let told = report.faultless().unwrap_err().to_string();
        assert!(told.contains("Connection refused"), "{told}");
        assert!(Report::default().faultless().is_err(), "no request is no proof");
    }
}
