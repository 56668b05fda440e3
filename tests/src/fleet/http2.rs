//! HTTP/2 client for one gRPC stream, optimized for low cost: bytes in, bytes out, without socket or clock.
//! <https://www.rfc-editor.org/rfc/rfc9113>
//!
//! One connection carries one stream, number 1. The receive windows are effectively unlimited, and bodies are passed on in the
//! slices they arrive in. Header blocks of the server are not decoded: only the end of the stream matters here.

use anyhow::{Result, bail, ensure};

/// Largest flow-control window of HTTP/2.
const WINDOW: u32 = (1 << 31) - 1;

/// Initial flow-control window before any SETTINGS.
const DEFAULT_WINDOW: i64 = 65_535;

/// Number of received bytes after which a `WINDOW_UPDATE` is sent.
const REFILL: u32 = 1 << 30;

/// Largest accepted frame other than DATA.
const MAX_CONTROL: usize = 1 << 20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const STREAM: u32 = 1;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

mod flag {
    pub(super) const ACK: u8 = 1;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// Parameters of the request that opens the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestHead<'a> {
    /// `http` or `https`.
    pub(super) scheme: &'a str,
    /// `:authority`.
    pub(super) authority: &'a str,
    /// `:path`: `/package.Service/Method`.
    pub(super) path: &'a str,
    /// `SETTINGS_MAX_FRAME_SIZE` to announce: 16,384 to 16,777,215 bytes.
    pub(super) max_frame: u32,
}

/// State of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamState {
    /// The stream is open.
    Open,
    /// The server ended the stream, or reset it with this error code.
    Ended { reset: Option<u32> },
}

/// One connection.
#[derive(Debug)]
pub(super) struct Http2 {
    /// Bytes to be written next.
    pub(super) out: Vec<u8>,
    state: StreamState,
    going_away: u32,
    // Receiving.
    header: [u8; 9],
    have: usize,
    frame: Frame,
    payload: Vec<u8>,
    taken: u32,
    // Sending.
    unsent: Vec<u8>,
    max_frame: usize,
    connection_window: i64,
    stream_window: i64,
    initial_window: i64,
}

/// The frame that is being received.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    left: usize,
}

// === impl Http2 ===

impl Http2 {
    /// Creates a connection; its first bytes are already in `out`.
    pub(super) fn open(request: RequestHead<'_>) -> Self {
        let mut out = PREFACE.to_vec();
        let mut settings = Vec::new();
        // HEADER_TABLE_SIZE 0, ENABLE_PUSH 0, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE.
        for (name, value) in [(1_u16, 0_u32), (2, 0), (4, WINDOW), (5, request.max_frame)] {
            settings.extend(name.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        put(&mut out, kind::SETTINGS, 0, 0, &settings);
        put(&mut out, kind::WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes());
        put(&mut out, kind::HEADERS, flag::END_HEADERS, STREAM, &header_block(request));
        Self {
            out,
            state: StreamState::Open,
            going_away: 0,
            header: [0; 9],
            have: 0,
            frame: Frame::default(),
            payload: Vec::new(),
            taken: 0,
            unsent: Vec::new(),
            max_frame: 16_384,
            connection_window: DEFAULT_WINDOW,
            stream_window: DEFAULT_WINDOW,
            initial_window: DEFAULT_WINDOW,
        }
    }

    /// Returns the state of the stream.
    pub(super) const fn state(&self) -> StreamState {
        self.state
    }

    /// Returns the number of GOAWAY frames received.
    pub(super) const fn going_away(&self) -> u32 {
        self.going_away
    }

    /// Sends bytes of the request body as far as the server's windows allow; the rest waits.
    pub(super) fn send(&mut self, body: &[u8]) {
        self.unsent.extend_from_slice(body);
        self.release();
    }

    /// Processes received bytes; `body` is called with each slice of the response body.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        body: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        loop {
            if self.frame.left == 0 && self.have < self.header.len() {
                let Some(missing) = self.header.get_mut(self.have..) else { return Ok(()) };
                let (some, rest) = bytes.split_at(missing.len().min(bytes.len()));
                for (to, from) in missing.iter_mut().zip(some) {
                    *to = *from;
                }
                self.have += some.len();
                bytes = rest;
                if self.have < self.header.len() {
                    return Ok(());
                }
                self.begin()?;
            }
            let (some, rest) = bytes.split_at(self.frame.left.min(bytes.len()));
            bytes = rest;
            self.frame.left -= some.len();
            if self.frame.kind == kind::DATA {
                if self.frame.stream == STREAM {
                    body(some)?;
                }
                self.refill(some.len());
            } else {
                self.payload.extend_from_slice(some);
            }
            if self.frame.left > 0 {
                return Ok(());
            }
            self.have = 0;
            self.finish()?;
        }
    }

    fn begin(&mut self) -> Result<()> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
        let left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & WINDOW;
        self.frame = Frame { kind, flags, stream, left };
        self.payload.clear();
        ensure!(kind == kind::DATA || left <= MAX_CONTROL, "a frame of type {kind} and {left} bytes");
        ensure!(kind != kind::DATA || flags & flag::PADDED == 0, "DATA is padded");
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let Frame { kind, flags, stream, .. } = self.frame;
        let payload = std::mem::take(&mut self.payload);
        let number =
            |at: usize| payload.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        match kind {
            kind::DATA | kind::HEADERS if stream == STREAM && flags & flag::END_STREAM != 0 => {
                self.state = StreamState::Ended { reset: None };
            }
            kind::RST_STREAM if stream == STREAM => self.state = StreamState::Ended { reset: number(0) },
            kind::SETTINGS if flags & flag::ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if let [n0, n1, v0, v1, v2, v3] = *setting {
                        self.setting(u16::from_be_bytes([n0, n1]), u32::from_be_bytes([v0, v1, v2, v3]));
                    }
                }
                put(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
                self.release();
            }
            kind::PING if flags & flag::ACK == 0 => put(&mut self.out, kind::PING, flag::ACK, 0, &payload),
            kind::GOAWAY => self.going_away += 1,
            kind::WINDOW_UPDATE => {
                let Some(more) = number(0) else { bail!("WINDOW_UPDATE without a number") };
                match stream {
                    0 => self.connection_window += i64::from(more),
                    _ => self.stream_window += i64::from(more),
                }
                self.release();
            }
            // PRIORITY, ACKs and unknown frame types: RFC 9113, 5.5.
            _ => {}
        }
        self.payload = payload;
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32) {
        match name {
            4 => {
                self.stream_window += i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
            }
            5 => self.max_frame = value as usize,
            _ => {}
        }
    }

    /// Frames as much of the unsent body as the windows allow.
    fn release(&mut self) {
        let window = self.connection_window.min(self.stream_window).max(0);
        let allowed = usize::try_from(window).unwrap_or_default().min(self.unsent.len());
        if allowed == 0 {
            return;
        }
        let rest = self.unsent.split_off(allowed);
        let now = std::mem::replace(&mut self.unsent, rest);
        for part in now.chunks(self.max_frame.max(1)) {
            put(&mut self.out, kind::DATA, 0, STREAM, part);
        }
        let sent = i64::try_from(allowed).unwrap_or_default();
        self.connection_window -= sent;
        self.stream_window -= sent;
    }

    /// Counts received bytes and sends a `WINDOW_UPDATE` for each [`REFILL`].
    fn refill(&mut self, taken: usize) {
        self.taken = self.taken.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
        if self.taken >= REFILL {
            let more = self.taken.to_be_bytes();
            put(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &more);
            put(&mut self.out, kind::WINDOW_UPDATE, 0, STREAM, &more);
            self.taken = 0;
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    out.extend(length);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Encodes the request headers as HPACK literals without indexing: RFC 7541, 6.2.2.
fn header_block(RequestHead { scheme, authority, path, .. }: RequestHead<'_>) -> Vec<u8> {
    /// `:method: POST`
    const POST: u8 = 0x83;
    let text = |block: &mut Vec<u8>, text: &str| {
        // Method names and addresses are shorter than 127 bytes.
        let text = text.as_bytes().get(..126).unwrap_or(text.as_bytes());
        block.push(u8::try_from(text.len()).unwrap_or_default());
        block.extend_from_slice(text);
    };
    let mut block = vec![POST, if scheme == "https" { 0x87 } else { 0x86 }];
    block.push(0x04);
    text(&mut block, path);
    block.push(0x01);
    text(&mut block, authority);
    // `content-type`, entry 31 of the static table.
    block.extend([0x0f, 0x10]);
    text(&mut block, "application/grpc");
    block.push(0x00);
    text(&mut block, "te");
    text(&mut block, "trailers");
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Http2 {
        let request = RequestHead { scheme: "http", authority: "a", path: "/s/m", max_frame: 16_384 };
        let mut http2 = Http2::open(request);
        http2.out.clear();
        http2
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, kind, flags, stream, payload);
        out
    }

    /// Feeds the bytes in pieces of this size and returns the body.
    fn fed(http2: &mut Http2, bytes: &[u8], size: usize) -> Vec<u8> {
        let mut body = Vec::new();
        for piece in bytes.chunks(size) {
            http2
                .take(piece, &mut |part| {
                    body.extend_from_slice(part);
                    Ok(())
                })
                .unwrap();
        }
        body
    }

    #[test]
    fn a_body_is_complete_for_every_segmentation() {
        let mut wire = frame(kind::SETTINGS, 0, 0, &[]);
        wire.extend(frame(kind::HEADERS, flag::END_HEADERS, STREAM, &[0x88]));
        wire.extend(frame(kind::DATA, 0, STREAM, b"hello "));
        wire.extend(frame(kind::DATA, 0, STREAM, b""));
        wire.extend(frame(kind::PING, 0, 0, b"12345678"));
        wire.extend(frame(kind::DATA, 0, STREAM, b"world"));
        wire.extend(frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, STREAM, &[]));
        for size in [1, 2, 8, 9, 10, 1000] {
            let mut http2 = opened();
            assert_eq!(fed(&mut http2, &wire, size), b"hello world", "pieces of {size}");
            assert_eq!(http2.state(), StreamState::Ended { reset: None });
            let mut answers = frame(kind::SETTINGS, flag::ACK, 0, &[]);
            answers.extend(frame(kind::PING, flag::ACK, 0, b"12345678"));
            assert_eq!(http2.out, answers);
        }
    }

    #[test]
    fn a_request_body_waits_for_the_flow_control_windows() {
        let mut http2 = opened();
        http2.send(&vec![7; 70_000]);
        // Four frames of at most 16 KiB: 65,535 bytes and their headers.
        assert_eq!(http2.out.len(), 65_535 + 4 * 9);
        http2.out.clear();
        let connection = frame(kind::WINDOW_UPDATE, 0, 0, &10_000_u32.to_be_bytes());
        fed(&mut http2, &connection, 100);
        assert!(http2.out.is_empty(), "sent although the stream's window is closed");
        let settings = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0x11, 0x70]);
        fed(&mut http2, &settings, 100);
        assert_eq!(http2.out.len(), 9 + 9 + 4_465, "expected the ACK of the settings, and the rest");
    }

    #[test]
    fn goaway_and_rst_stream_are_recorded() {
        let mut http2 = opened();
        fed(&mut http2, &frame(kind::GOAWAY, 0, 0, &[0; 8]), 100);
        assert_eq!((http2.going_away(), http2.state()), (1, StreamState::Open));
        fed(&mut http2, &frame(kind::RST_STREAM, 0, STREAM, &8_u32.to_be_bytes()), 3);
        assert_eq!(http2.state(), StreamState::Ended { reset: Some(8) });
        let padded = frame(kind::DATA, flag::PADDED, STREAM, &[0]);
        assert!(http2.take(&padded, &mut |_| Ok(())).is_err());
    }
}
