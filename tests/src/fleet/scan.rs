//! Incremental parser of discovery responses. Responses are never held as a whole: a thousand partial responses of megabytes
//! each would be gigabytes. It parses gRPC's framing and the top level of both response messages; [`fields`] parses resources.

use anyhow::{Context, Result, bail, ensure};

/// Largest field that is buffered.
const MAX_FIELD: usize = 64 << 20;

/// Output of the scanner.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// One resource: an `Any` in `SotW`, a `Resource` in delta.
    Resource(&'a [u8]),
    /// The end of a response.
    End(ResponseHead),
}

/// Treatment of the content of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Each resource becomes an [`Event::Resource`].
    Content,
    /// Resources are only counted.
    Count,
}

/// Fields of a response other than its resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) version: String,
    pub(super) type_url: String,
    pub(super) nonce: String,
    /// `removed_resources`; delta only.
    pub(super) removed: Vec<String>,
    /// Number of resources.
    pub(super) resources: u32,
    /// Size of the message in bytes.
    pub(super) bytes: u64,
}

/// Position of the scanner in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanState {
    /// gRPC's prefix: a flag and four bytes of length.
    Prefix,
    /// A field's number and wire type.
    Key,
    /// A varint that is skipped.
    Number,
    /// The length of this field.
    Length(u64),
    /// Number and remaining bytes of a field that is read.
    Field(u64, usize),
    /// Remaining bytes of a field that is skipped.
    Skipped(usize),
}

/// State between two slices.
#[derive(Debug)]
pub(super) struct Scanner {
    at: ScanState,
    /// Remaining bytes of the message.
    left: usize,
    held: Vec<u8>,
    head: ResponseHead,
}

/// Field numbers, the same in both responses except for the last.
mod field {
    pub(super) const VERSION: u64 = 1;
    pub(super) const RESOURCES: u64 = 2;
    pub(super) const TYPE_URL: u64 = 4;
    pub(super) const NONCE: u64 = 5;
    /// `removed_resources` of `DeltaDiscoveryResponse`; `control_plane` in `DiscoveryResponse`.
    pub(super) const REMOVED: u64 = 6;
}

// === impl Scanner ===

impl Scanner {
    pub(super) fn new() -> Self {
        Self { at: ScanState::Prefix, left: 0, held: Vec::new(), head: ResponseHead::default() }
    }

    /// Parses the next slice of the stream.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        interest: Interest,
        sink: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            bytes = match self.at {
                ScanState::Prefix => self.prefix(bytes)?,
                ScanState::Key | ScanState::Number | ScanState::Length(_) => self.varint(bytes, interest)?,
                ScanState::Skipped(left) => {
                    let some = left.min(bytes.len());
                    self.spend(some)?;
                    self.at = if some == left { ScanState::Key } else { ScanState::Skipped(left - some) };
                    bytes.get(some..).unwrap_or_default()
                }
                ScanState::Field(number, left) => self.field(number, left, bytes, sink)?,
            };
            // An empty field ends with its length.
            if let ScanState::Field(number, 0) = self.at {
                self.end_field(number, &[], sink)?;
                self.at = ScanState::Key;
            }
            if self.at == ScanState::Skipped(0) {
                self.at = ScanState::Key;
            }
            if self.at == ScanState::Key && self.left == 0 && self.held.is_empty() {
                self.at = ScanState::Prefix;
                sink(Event::End(std::mem::take(&mut self.head)))?;
            }
        }
        Ok(())
    }

    fn prefix<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let (some, rest) = bytes.split_at((5 - self.held.len()).min(bytes.len()));
        self.held.extend_from_slice(some);
        if let [compressed, a, b, c, d] = *self.held.as_slice() {
            ensure!(compressed == 0, "a compressed response, which was not requested");
            self.left = u32::from_be_bytes([a, b, c, d]) as usize;
            self.head.bytes = self.left as u64;
            self.held.clear();
            self.at = ScanState::Key;
        }
        Ok(rest)
    }

    fn varint<'a>(&mut self, bytes: &'a [u8], interest: Interest) -> Result<&'a [u8]> {
        let Some((byte, rest)) = bytes.split_first() else { return Ok(bytes) };
        self.spend(1)?;
        self.held.push(*byte);
        ensure!(self.held.len() <= 10, "a number of more than ten bytes");
        if byte & 0x80 != 0 {
            return Ok(rest);
        }
        let value = varint(&mut self.held.as_slice()).context("a number")?;
        self.held.clear();
        self.at = match self.at {
            ScanState::Key => match value & 7 {
                0 => ScanState::Number,
                2 => ScanState::Length(value >> 3),
                other => bail!("a response has field {} of wire type {other}", value >> 3),
            },
            ScanState::Length(number) => {
                let length = usize::try_from(value).ok().filter(|length| *length <= self.left);
                let length = length.with_context(|| format!("field {number} is longer than its message"))?;
                if number == field::RESOURCES {
                    self.head.resources += 1;
                }
                let read = match number {
                    field::VERSION | field::TYPE_URL | field::NONCE | field::REMOVED => true,
                    field::RESOURCES => interest == Interest::Content,
                    _ => false,
                };
                ensure!(!read || length <= MAX_FIELD, "field {number} has {length} bytes");
                if read { ScanState::Field(number, length) } else { ScanState::Skipped(length) }
            }
            _ => ScanState::Key,
        };
        Ok(rest)
    }

    fn field<'a>(
        &mut self,
        number: u64,
        left: usize,
        bytes: &'a [u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<&'a [u8]> {
        let (some, rest) = bytes.split_at(left.min(bytes.len()));
        self.spend(some.len())?;
        if some.len() < left {
            self.held.extend_from_slice(some);
            self.at = ScanState::Field(number, left - some.len());
            return Ok(rest);
        }
        if self.held.is_empty() {
            self.end_field(number, some, sink)?;
        } else {
            self.held.extend_from_slice(some);
            let held = std::mem::take(&mut self.held);
            self.end_field(number, &held, sink)?;
            self.held = held;
            self.held.clear();
        }
        self.at = ScanState::Key;
        Ok(rest)
    }

    fn end_field(
        &mut self,
        number: u64,
        value: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let text = || String::from_utf8_lossy(value).into_owned();
        match number {
            field::VERSION => self.head.version = text(),
            field::TYPE_URL => self.head.type_url = text(),
            field::NONCE => self.head.nonce = text(),
            field::REMOVED => self.head.removed.push(text()),
            _ => sink(Event::Resource(value))?,
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).context("a field reaches beyond its message")?;
        Ok(())
    }
}

/// The value of a protobuf field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Returns the fields of a message up to the first that cannot be parsed.
pub(super) fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => return Some((key >> 3, Value::Number(varint(&mut message)?))),
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(length)?;
        message = rest;
        Some((key >> 3, Value::Bytes(value)))
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
    use pilot_proto::google::protobuf::Any;
    use prost::Message;

    use super::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let body = message.encode_to_vec();
        let mut framed = vec![0];
        framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        framed.extend(body);
        framed
    }

    /// Returns the output for a stream that is cut into pieces of this size.
    fn scanned(stream: &[u8], size: usize, interest: Interest) -> (Vec<Vec<u8>>, Vec<ResponseHead>) {
        let (mut resources, mut heads) = (Vec::new(), Vec::new());
        let mut scanner = Scanner::new();
        for piece in stream.chunks(size) {
            let sink = &mut |event: Event<'_>| {
                match event {
                    Event::Resource(bytes) => resources.push(bytes.to_vec()),
                    Event::End(head) => heads.push(head),
                }
                Ok(())
            };
            scanner.take(piece, interest, sink).unwrap();
        }
        (resources, heads)
    }

    #[test]
    fn responses_are_parsed_for_every_segmentation() {
        let any = |length: usize| Any { type_url: "t".into(), value: vec![5; length].into() };
        let sotw = DiscoveryResponse {
            version_info: "v".into(),
            resources: vec![any(3), Any::default(), any(1000)],
            canary: true,
            type_url: "cds".into(),
            nonce: "n".into(),
            ..Default::default()
        };
        let delta = DeltaDiscoveryResponse {
            resources: vec![Resource { name: "x".into(), resource: Some(any(300)), ..Default::default() }],
            type_url: "eds".into(),
            nonce: "m".into(),
            removed_resources: vec!["gone".into()],
            ..Default::default()
        };
        let stream = [framed(&sotw), framed(&DiscoveryResponse::default()), framed(&delta)].concat();
        let head = |type_url: &str, nonce: &str, resources, bytes: usize| ResponseHead {
            type_url: type_url.into(),
            nonce: nonce.into(),
            resources,
            bytes: bytes as u64,
            ..ResponseHead::default()
        };
        let heads = vec![
            ResponseHead { version: "v".into(), ..head("cds", "n", 3, sotw.encoded_len()) },
            ResponseHead::default(),
            ResponseHead { removed: vec!["gone".into()], ..head("eds", "m", 1, delta.encoded_len()) },
        ];
        let mut contents: Vec<Vec<u8>> = sotw.resources.iter().map(Message::encode_to_vec).collect();
        contents.extend(delta.resources.iter().map(Message::encode_to_vec));
        for size in [1, 2, 3, 7, 64, 1 << 20] {
            assert_eq!(
                scanned(&stream, size, Interest::Content),
                (contents.clone(), heads.clone()),
                "{size}"
            );
            assert_eq!(scanned(&stream, size, Interest::Count), (vec![], heads.clone()), "{size}");
        }
    }

    #[test]
    fn invalid_responses_are_errors() {
        let check = |bytes: &[u8]| {
            assert!(Scanner::new().take(bytes, Interest::Content, &mut |_| Ok(())).is_err(), "{bytes:?}");
        };
        check(&[1, 0, 0, 0, 0]);
        check(&[0, 0, 0, 0, 2, 0x12, 0x05]);
        check(&[0, 0, 0, 0, 2, 0x15, 0x05]);
        check(&[0, 0, 0, 0, 1, 0x92, 0x05]);
    }

    #[test]
    fn fields_end_at_the_first_invalid_field() {
        let read = |bytes| fields(bytes).collect::<Vec<_>>();
        assert_eq!(read(&[0x0a, 1, b'x', 0x10, 3]), [(1, Value::Bytes(b"x")), (2, Value::Number(3))]);
        assert_eq!(read(&[0x10, 3, 0x0a, 9, 1]), [(2, Value::Number(3))]);
        assert_eq!(read(&[]), []);
    }
}
