//! One client and its connection: moves bytes between a socket and the state machines.
//!
//! All clients of a fleet share one thread and one read buffer, so that an idle stream costs little more than its socket. A
//! stalled client does not read; the kernel's buffers fill, and then the server's.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::http2::{Http2, RequestHead, StreamState};
use super::orders::{Codec, FleetConfig, ResumeState, now};
use super::scan::Scanner;
use super::subscriber::Subscriber;

/// Time limit for a connection, including the TLS handshake.
const CONNECT: Duration = Duration::from_secs(30);

const SOTW: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Reading state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    On,
    Stalled,
}

/// Connection state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    Down,
    Up,
}

/// One client, connected or not.
pub(super) struct Client {
    pub(super) subscriber: Subscriber,
    pub(super) reading: Reading,
    pub(super) link: LinkState,
    /// Streams lost since the mark.
    pub(super) lost: u64,
    /// Reason for the last lost stream.
    pub(super) last_loss: Option<String>,
    /// GOAWAY frames since the mark.
    pub(super) going_away: u64,
    waker: Option<Waker>,
}

/// Settings shared by all connections of a fleet.
pub(super) struct ConnectionSettings {
    setup: FleetConfig,
    tls: Option<Arc<ClientConfig>>,
    buffer: RefCell<Box<[u8]>>,
}

/// The state machines of one stream.
struct Stream {
    http2: Http2,
    scanner: Scanner,
}

// === impl Client ===

impl Client {
    pub(super) fn new(subscriber: Subscriber) -> Self {
        Self {
            subscriber,
            reading: Reading::On,
            link: LinkState::Down,
            lost: 0,
            last_loss: None,
            going_away: 0,
            waker: None,
        }
    }

    /// Starts or stops reading.
    pub(super) fn set_reading(&mut self, reading: Reading) {
        self.reading = reading;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

// === impl ConnectionSettings ===

impl ConnectionSettings {
    pub(super) fn new(setup: FleetConfig, tls: Option<Arc<ClientConfig>>) -> Self {
        // The size of a socket's receive buffer.
        Self { setup, tls, buffer: RefCell::new(vec![0; 512 << 10].into()) }
    }

    /// Keeps a client connected until the future is dropped.
    pub(super) async fn stay(self: Rc<Self>, client: Rc<RefCell<Client>>, memory: ResumeState) {
        loop {
            let ended = self.once(&client, memory).await;
            {
                let mut client = client.borrow_mut();
                client.link = LinkState::Down;
                client.lost += 1;
                client.last_loss = Some(match ended {
                    Ok(state) => format!("the stream has ended: {state:?}"),
                    Err(error) => format!("{error:#}"),
                });
            }
            tokio::time::sleep(Duration::from_millis(self.setup.retry_ms)).await;
        }
    }

    async fn once(&self, client: &RefCell<Client>, memory: ResumeState) -> Result<StreamState> {
        let connect = async {
            let socket = TcpStream::connect(self.setup.to).await?;
            socket.set_nodelay(true)?;
            io::Result::Ok(socket)
        };
        let timeout = |_| io::Error::from(io::ErrorKind::TimedOut);
        let socket =
            tokio::time::timeout(CONNECT, connect).await.map_err(timeout).flatten().context("connect")?;
        match &self.tls {
            None => self.run(socket, client, memory).await,
            Some(tls) => {
                let name = ServerName::from(self.setup.to.ip());
                let shake = TlsConnector::from(tls.clone()).connect(name, socket);
                let stream = tokio::time::timeout(CONNECT, shake).await.map_err(timeout).flatten();
                self.run(stream.context("TLS handshake")?, client, memory).await
            }
        }
    }

    async fn run(
        &self,
        mut socket: impl AsyncRead + AsyncWrite + Unpin,
        client: &RefCell<Client>,
        memory: ResumeState,
    ) -> Result<StreamState> {
        let authority = self.setup.to.to_string();
        let mut stream = Stream {
            http2: Http2::open(RequestHead {
                scheme: if self.tls.is_some() { "https" } else { "http" },
                authority: &authority,
                path: if self.setup.codec == Codec::Sotw { SOTW } else { DELTA },
                max_frame: self.setup.max_frame,
            }),
            scanner: Scanner::new(),
        };
        {
            let mut client = client.borrow_mut();
            client.link = LinkState::Up;
            client.subscriber.begin(memory);
            stream.send(&mut client);
        }
        std::future::poll_fn(|context| {
            let mut client = client.borrow_mut();
            let mut buffer = self.buffer.borrow_mut();
            stream.poll(Pin::new(&mut socket), context, &mut client, &mut buffer)
        })
        .await
    }
}

// === impl Stream ===

impl Stream {
    /// Writes and reads until neither makes progress. Ready at the end of the stream.
    fn poll(
        &mut self,
        mut socket: Pin<&mut (impl AsyncRead + AsyncWrite)>,
        context: &mut Context<'_>,
        client: &mut Client,
        buffer: &mut [u8],
    ) -> Poll<Result<StreamState>> {
        loop {
            self.poll_write(socket.as_mut(), context)?;
            if client.reading == Reading::Stalled {
                client.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            let mut read = ReadBuf::new(buffer);
            if socket.as_mut().poll_read(context, &mut read).is_pending() {
                client.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            let bytes = read.filled();
            if bytes.is_empty() {
                return Poll::Ready(Err(anyhow::anyhow!("the connection was closed")));
            }
            self.take(bytes, client)?;
            if self.http2.state() != StreamState::Open {
                return Poll::Ready(Ok(self.http2.state()));
            }
        }
    }

    /// Writes as much as the socket takes; it wakes the task for the rest.
    fn poll_write(&mut self, mut socket: Pin<&mut impl AsyncWrite>, context: &mut Context<'_>) -> Result<()> {
        let out = &mut self.http2.out;
        let mut written = 0;
        while let Some(rest) = out.get(written..).filter(|rest| !rest.is_empty()) {
            let Poll::Ready(some) = socket.as_mut().poll_write(context, rest) else {
                out.drain(..written);
                return Ok(());
            };
            written += some.context("write")?;
        }
        if out.capacity() > 16 << 10 {
            *out = Vec::new();
        } else {
            out.clear();
        }
        match socket.poll_flush(context) {
            Poll::Ready(flushed) => flushed.context("write"),
            Poll::Pending => Ok(()),
        }
    }

    fn take(&mut self, bytes: &[u8], client: &mut Client) -> Result<()> {
        let now = now();
        let goaways = self.http2.going_away();
        let (scanner, subscriber) = (&mut self.scanner, &mut client.subscriber);
        self.http2.take(bytes, &mut |body| {
            scanner.take(body, subscriber.interest(), &mut |event| subscriber.on_event(event, now))
        })?;
        client.going_away += u64::from(self.http2.going_away() - goaways);
        self.send(client);
        Ok(())
    }

    fn send(&mut self, client: &mut Client) {
        for request in client.subscriber.requests.drain(..) {
            self.http2.send(&request);
        }
    }
}
