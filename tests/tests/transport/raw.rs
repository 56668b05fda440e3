//! HTTP/2 client that sends and receives single frames, for sequences that no library would produce.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3::DiscoveryRequest;
use pilot_tests::ads::sidecar;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::control_plane::TIMEOUT;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

pub(crate) struct RawHttp2Client {
    pub(crate) stream: TcpStream,
    /// Time limit for a frame.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// Encodes a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Encodes a header as a literal without indexing. Both texts must be shorter than 127 bytes.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// Encodes the headers of an ADS call.
pub(crate) fn call() -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", ADS),
        (":authority", "pilot"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.map(|(name, value)| header(name, value)).concat()
}

impl RawHttp2Client {
    /// Connects and announces this initial window size.
    pub(crate) async fn connect(to: SocketAddr, window: u32) -> Result<Self> {
        let mut stream = TcpStream::connect(to).await.context("connect")?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        let setting = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        stream.write_all(&frame(SETTINGS, 0, 0, &setting)).await?;
        Ok(Self { stream, timeout: TIMEOUT })
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await.context("write a frame")
    }

    /// Opens an ADS stream and subscribes to these types.
    pub(crate) async fn ask(&mut self, stream: u32, kinds: &[ResourceType]) -> Result<()> {
        self.send(HEADERS, END_HEADERS, stream, &call()).await?;
        for kind in kinds {
            let request = DiscoveryRequest {
                node: Some(sidecar("raw")),
                type_url: kind.type_url().to_owned(),
                resource_names: match kind {
                    ResourceType::Endpoint => vec!["outbound|80||web.default.svc.cluster.local".to_owned()],
                    _ => Vec::new(),
                },
                ..Default::default()
            };
            let body = request.encode_to_vec();
            let length = u32::try_from(body.len())?.to_be_bytes();
            self.send(DATA, 0, stream, &[&[0][..], &length, &body].concat()).await?;
        }
        Ok(())
    }

    /// Returns the next frame, or `None` at the end of the connection. SETTINGS and PING are acknowledged.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let read = tokio::time::timeout(self.timeout, self.read()).await.context("no frame came")?;
            // A reset also ends the connection.
            let Some(frame) = read.unwrap_or_default() else { return Ok(None) };
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let payload = if frame.kind == PING { &frame.payload[..] } else { &[] };
                    // If the connection is closed, the next read returns that.
                    drop(self.send(frame.kind, ACK, 0, payload).await);
                    if frame.kind == SETTINGS {
                        continue;
                    }
                }
                _ => {}
            }
            return Ok(Some(frame));
        }
    }

    /// Returns frames up to and including the first of this kind.
    pub(crate) async fn until(&mut self, kind: u8) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await? {
            let found = frame.kind == kind;
            frames.push(frame);
            if found {
                return Ok(frames);
            }
        }
        bail!("the connection ended before a frame of kind {kind}: {frames:?}")
    }

    /// Returns all frames up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    async fn read(&mut self) -> Result<Option<Frame>> {
        let mut head = [0; 9];
        if self.stream.read_exact(&mut head).await.is_err() {
            return Ok(None);
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }))
    }
}

impl Frame {
    /// Returns the error code of a GOAWAY.
    pub(crate) fn reason(&self) -> Option<u32> {
        let code = self.payload.get(4..8).filter(|_| self.kind == GOAWAY)?;
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }

    /// Returns true if the frame ends its stream.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.kind, HEADERS | DATA) && self.flags & END_STREAM != 0
    }
}
