//! Decoder of the messages of one body.
//!
//! tonic's decoder keeps a buffer as large as the largest message so far: with a thousand names in one request that is two
//! thirds of the memory of an idle stream. Here a buffer exists only while a message is incomplete.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::PREFIX;

/// Messages of one body.
#[derive(Debug)]
pub struct MessageDecoder<M> {
    body: Body,
    /// Beginning of a message that is incomplete.
    partial: BytesMut,
    /// Bytes after the last complete message.
    rest: Bytes,
    /// Maximum length of a message, in bytes.
    max_len: usize,
    message: PhantomData<fn() -> M>,
}

// === impl MessageDecoder ===

impl<M: Message + Default> MessageDecoder<M> {
    /// Creates a decoder for messages of at most `max_len` bytes.
    pub fn new(body: Body, max_len: usize) -> Self {
        Self { body, partial: BytesMut::new(), rest: Bytes::new(), max_len, message: PhantomData }
    }

    /// Returns the next message; `None` at the end of the body. Cancel safe.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE` if a message is too long, `UNIMPLEMENTED` if it is compressed (no compression is offered), `INTERNAL` if
    /// it cannot be decoded or is incomplete at the end of the body; otherwise the error that ended the stream.
    pub async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.take_complete()? {
                return M::decode(message)
                    .map(Some)
                    .map_err(|error| Status::internal(format!("decode the request: {error}")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers of a request have no meaning.
                    if let Ok(data) = frame.into_data() {
                        self.add(data);
                    }
                }
                Some(Err(status)) => return Err(status),
                None if self.partial.is_empty() => return Ok(None),
                None => return Err(Status::internal("body ended within a message")),
            }
        }
    }

    fn add(&mut self, data: Bytes) {
        if self.partial.is_empty() {
            self.rest = data;
        } else {
            self.partial.extend_from_slice(&data);
        }
    }

    /// Returns the next message without its prefix if all of it has arrived.
    fn take_complete(&mut self) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty() {
            let Some(length) = self.length(&self.rest)? else {
                self.partial = BytesMut::from(self.rest.split_off(0).as_ref());
                return Ok(None);
            };
            if self.rest.len() < length {
                self.partial = BytesMut::with_capacity(length);
                self.partial.extend_from_slice(&self.rest.split_off(0));
                return Ok(None);
            }
            let mut message = self.rest.split_to(length);
            message.advance(PREFIX);
            return Ok(Some(message));
        }
        let Some(length) = self.length(&self.partial)? else { return Ok(None) };
        if self.partial.len() < length {
            self.partial.reserve(length - self.partial.len());
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        self.rest = message.split_off(length);
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Returns the length of the message that begins here, with its prefix; `None` if the prefix is incomplete.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let [compressed, a, b, c, d, ..] = *bytes else { return Ok(None) };
        if compressed != 0 {
            return Err(Status::unimplemented("message is compressed; no compression is offered"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.max_len {
            let max_len = self.max_len;
            return Err(Status::out_of_range(format!(
                "message of {length} bytes exceeds the limit of {max_len}"
            )));
        }
        Ok(Some(PREFIX + length))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use pilot_proto::envoy::service::discovery::v3::DiscoveryRequest;

    use super::*;

    fn request(names: usize) -> DiscoveryRequest {
        let resource_names = (0..names).map(|number| format!("name-{number}")).collect();
        DiscoveryRequest { resource_names, ..DiscoveryRequest::default() }
    }

    fn framed(request: &DiscoveryRequest) -> Vec<u8> {
        crate::grpc::prefixed(&request.encode_to_vec(), 0).unwrap().into()
    }

    fn decoder(bytes: &[u8], chunk: usize, max_len: usize) -> MessageDecoder<DiscoveryRequest> {
        let chunks: Vec<Result<_, Status>> = bytes
            .chunks(chunk)
            .map(|chunk| Ok(http_body::Frame::data(Bytes::copy_from_slice(chunk))))
            .collect();
        MessageDecoder::new(Body::new(StreamBody::new(futures_util::stream::iter(chunks))), max_len)
    }

    #[tokio::test]
    async fn decoder_returns_messages_in_order_however_the_body_is_chunked() {
        let sent = [request(0), request(3), request(0), request(2000), request(1)];
        let bytes: Vec<u8> = sent.iter().flat_map(framed).collect();
        for chunk in [1, 2, 5, 7, 1000, usize::MAX] {
            let mut decoder = decoder(&bytes, chunk.min(bytes.len()), 1 << 20);
            let mut messages = Vec::new();
            while let Some(message) = decoder.next().await.unwrap() {
                messages.push(message);
            }
            assert_eq!(messages, sent, "chunks of {chunk}");
            assert_eq!(decoder.partial.capacity(), 0, "no buffer is left");
        }
    }

    #[tokio::test]
    async fn decoder_reports_why_a_message_is_invalid() {
        use tonic::Code;
        let good = framed(&request(3));
        let compressed = [&[1][..], &good[1..]].concat();
        let invalid = [0, 0, 0, 0, 3, 0xff, 0xff, 0xff];
        for (bytes, limit, code) in [
            (&good[..good.len() - 1], 1 << 20, Code::Internal),
            (&good[..3], 1 << 20, Code::Internal),
            (&good, 10, Code::OutOfRange),
            (&[0, 0xff, 0xff, 0xff, 0xff], 1 << 20, Code::OutOfRange),
            (&compressed, 1 << 20, Code::Unimplemented),
            (&invalid, 1 << 20, Code::Internal),
        ] {
            for chunk in [1, 100] {
                let status = decoder(bytes, chunk, limit).next().await.unwrap_err();
                assert_eq!(status.code(), code, "{bytes:?}: {status}");
            }
        }
    }
}
