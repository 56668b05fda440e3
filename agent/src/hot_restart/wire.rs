//! Envoy's hot-restart messages, and how they are cut into datagrams.
//!
//! On the wire a message is its length in eight bytes, most significant first, and the protobuf of that
//! length, cut into datagrams of at most 4096 bytes of which the last is the only shorter one. The field
//! numbers are those of `source/server/hot_restart.proto`, as Envoy 1.40 carries it inside its binary.
//!
//! Pure: no socket and no file descriptor, which are passed beside the bytes. Keeps at most one datagram in memory,
//! whatever a length claims: the head of a long reply contains all fields that are read.

use prost::{Message as _, Oneof, encoding::decode_varint};

/// Longest datagram that Envoy sends and accepts.
pub(super) const DATAGRAM: usize = 4096;

/// The length before each message.
const PREFIX: usize = 8;

/// Longest request; all fit one datagram.
pub(super) const MAX_REQUEST: u64 = (DATAGRAM - PREFIX) as u64;

/// Longest reply; the statistics of a million clusters are shorter.
pub(super) const MAX_REPLY: u64 = 4 << 30;

/// A message, request or reply.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(oneof = "Body", tags = "1, 2")]
    pub(super) body: Option<Body>,
    /// Reply of a parent to an unknown request.
    #[prost(bool, tag = "3")]
    pub(super) didnt_recognize_your_last_message: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "1")]
    Request(RequestMessage),
    #[prost(message, tag = "2")]
    Reply(ReplyMessage),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RequestMessage {
    #[prost(oneof = "Request", tags = "1, 2, 3, 4, 5, 7")]
    pub(super) request: Option<Request>,
}

/// Requests of a child. Tag 6 is forwarded datagrams, which a parent sends to another socket.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Request {
    #[prost(message, tag = "1")]
    PassListenSocket(PassListenSocket),
    #[prost(message, tag = "2")]
    ShutdownAdmin(Empty),
    #[prost(message, tag = "3")]
    Stats(Empty),
    #[prost(message, tag = "4")]
    DrainListeners(Empty),
    #[prost(message, tag = "5")]
    Terminate(Empty),
    #[prost(message, tag = "7")]
    TestConnection(Empty),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PassListenSocket {
    #[prost(string, tag = "1")]
    pub(super) address: String,
    #[prost(uint32, tag = "2")]
    pub(super) worker_index: u32,
    #[prost(string, tag = "3")]
    pub(super) network_namespace: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReplyMessage {
    #[prost(oneof = "Reply", tags = "1, 2, 3")]
    pub(super) reply: Option<Reply>,
}

/// Replies of a parent.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Reply {
    #[prost(message, tag = "1")]
    PassListenSocket(PassedSocket),
    #[prost(message, tag = "2")]
    ShutdownAdmin(AdminShutDown),
    #[prost(message, tag = "3")]
    Stats(Stats),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct PassedSocket {
    /// −1 for none. The descriptor passed beside the message replaces it.
    #[prost(int32, tag = "1")]
    pub(super) fd: i32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct AdminShutDown {
    #[prost(uint64, tag = "1")]
    pub(super) original_start_time_unix_seconds: u64,
    /// Default of `enable_reuse_port`; `true` since Envoy 1.20.
    #[prost(bool, tag = "2")]
    pub(super) enable_reuse_port_default: bool,
}

/// Statistics; only the first two fields are read.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Stats {
    #[prost(uint64, tag = "1")]
    pub(super) memory_allocated: u64,
    #[prost(uint64, tag = "2")]
    pub(super) num_connections: u64,
}

/// A datagram that is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MalformedMessage {
    /// Shorter than the length prefix.
    #[error("a datagram of {0} bytes where a message should begin")]
    NoLength(usize),
    /// The length exceeds the limit.
    #[error("a message of {0} bytes")]
    TooLong(u64),
    /// More bytes than the length.
    #[error("a datagram longer than its message")]
    Overrun,
    /// The datagram is longer than any that Envoy sends.
    #[error("a datagram of more than {DATAGRAM} bytes")]
    CutOff,
    /// Not protobuf.
    #[error("a message that is not protobuf")]
    Unreadable(#[from] prost::DecodeError),
}

/// Result of one more datagram.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// The message is incomplete.
    More,
    /// A complete message.
    Message(Message),
    /// Head of a message of several datagrams that is complete.
    Long(Vec<u8>),
    /// No message; the next datagram begins a new one.
    Malformed(MalformedMessage),
}

/// Assembles messages from datagrams.
#[derive(Debug)]
pub(super) struct MessageAssembler {
    longest: u64,
    head: Vec<u8>,
    missing: u64,
}

// === impl Message ===

impl Message {
    pub(super) fn request(request: Request) -> Self {
        let body = Body::Request(RequestMessage { request: Some(request) });
        Self { body: Some(body), didnt_recognize_your_last_message: false }
    }

    pub(super) fn reply(reply: Reply) -> Self {
        let body = Body::Reply(ReplyMessage { reply: Some(reply) });
        Self { body: Some(body), didnt_recognize_your_last_message: false }
    }

    pub(super) fn not_recognized() -> Self {
        Self { body: None, didnt_recognize_your_last_message: true }
    }

    /// Length and message, not yet cut into datagrams.
    pub(super) fn framed(&self) -> Vec<u8> {
        let body = self.encode_to_vec();
        let mut framed = (body.len() as u64).to_be_bytes().to_vec();
        framed.extend(body);
        framed
    }
}

// === impl Stats ===

impl Stats {
    /// Parses the head of a `Stats` reply longer than one datagram. Protobuf writes fields in the order of their numbers, so
    /// a field that is not among the first is 0. `None` for another reply.
    pub(super) fn from_head(mut head: &[u8]) -> Option<Self> {
        const REPLY: u64 = 2 << 3 | 2;
        const STATS: u64 = 3 << 3 | 2;
        const MEMORY: u64 = 1 << 3;
        const CONNECTIONS: u64 = 2 << 3;
        for expected in [REPLY, STATS] {
            let (tag, _length) = (decode_varint(&mut head).ok()?, decode_varint(&mut head).ok()?);
            if tag != expected {
                return None;
            }
        }
        let mut stats = Self::default();
        loop {
            match decode_varint(&mut head).ok()? {
                MEMORY => stats.memory_allocated = decode_varint(&mut head).ok()?,
                CONNECTIONS => stats.num_connections = decode_varint(&mut head).ok()?,
                _ => return Some(stats),
            }
        }
    }
}

// === impl MessageAssembler ===

impl MessageAssembler {
    /// Creates an empty assembler with a limit for messages.
    pub(super) fn up_to(longest: u64) -> Self {
        Self { longest, head: Vec::new(), missing: 0 }
    }

    /// Adds the next datagram.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Progress {
        let outcome = if self.missing == 0 { self.begin(datagram) } else { self.go_on(datagram) };
        outcome.unwrap_or_else(|malformed| {
            (self.head, self.missing) = (Vec::new(), 0);
            Progress::Malformed(malformed)
        })
    }

    fn begin(&mut self, datagram: &[u8]) -> Result<Progress, MalformedMessage> {
        let Some((length, body)) = datagram.split_first_chunk::<PREFIX>() else {
            return Err(MalformedMessage::NoLength(datagram.len()));
        };
        let length = u64::from_be_bytes(*length);
        if length > self.longest {
            return Err(MalformedMessage::TooLong(length));
        }
        match length.checked_sub(body.len() as u64) {
            None => Err(MalformedMessage::Overrun),
            Some(0) => Ok(Progress::Message(Message::decode(body)?)),
            Some(missing) => {
                (self.head, self.missing) = (body.to_vec(), missing);
                Ok(Progress::More)
            }
        }
    }

    fn go_on(&mut self, datagram: &[u8]) -> Result<Progress, MalformedMessage> {
        self.missing = self.missing.checked_sub(datagram.len() as u64).ok_or(MalformedMessage::Overrun)?;
        match self.missing {
            0 => Ok(Progress::Long(std::mem::take(&mut self.head))),
            _ => Ok(Progress::More),
        }
    }
}

#[cfg(test)]
mod tests;
