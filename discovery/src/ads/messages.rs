//! Messages out of the body of a gRPC request.
//!
//! tonic's own decoder keeps a buffer as large as the largest message that ever came: with a thousand names in one
//! request that is two thirds of what an idle stream takes. Here a buffer lives as long as a message is incomplete.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

/// gRPC's prefix: one byte for compression, four for the length.
const PREFIX: usize = 5;

/// The messages of one request.
pub(super) struct Messages<M> {
    body: Body,
    /// What came of a message that is not complete.
    partial: BytesMut,
    /// What came after the last message.
    rest: Bytes,
    /// Bytes a message may have.
    limit: usize,
    message: PhantomData<fn() -> M>,
}

// === impl Messages ===

impl<M: Message + Default> Messages<M> {
    /// Those of a body, of so many bytes each at most.
    pub(super) fn of(body: Body, limit: usize) -> Self {
        Self { body, partial: BytesMut::new(), rest: Bytes::new(), limit, message: PhantomData }
    }

    /// The next one; nothing at the end. Cancelling loses nothing.
    ///
    /// `OUT_OF_RANGE`: longer than it may be. `UNIMPLEMENTED`: compressed; nobody was told that it may be. `INTERNAL`:
    /// not a message, or cut short. Whatever ended the stream, else.
    pub(super) async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.complete()? {
                return M::decode(message)
                    .map(Some)
                    .map_err(|error| Status::internal(format!("decode the request: {error}")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers of a request say nothing.
                    if let Ok(data) = frame.into_data() {
                        self.take(data);
                    }
                }
                Some(Err(status)) => return Err(status),
                None if self.partial.is_empty() => return Ok(None),
                None => return Err(Status::internal("the request ended within a message")),
            }
        }
    }

    fn take(&mut self, data: Bytes) {
        if self.partial.is_empty() {
            self.rest = data;
        } else {
            self.partial.extend_from_slice(&data);
        }
    }

    /// A message that has come as a whole.
    fn complete(&mut self) -> Result<Option<Bytes>, Status> {
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
        let mut whole = std::mem::take(&mut self.partial).freeze();
        self.rest = whole.split_off(length);
        whole.advance(PREFIX);
        Ok(Some(whole))
    }

    /// Bytes of the message that begins here, with its prefix; nothing while that is incomplete.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let [compressed, a, b, c, d, ..] = *bytes else { return Ok(None) };
        if compressed != 0 {
            return Err(Status::unimplemented("the request is compressed; no compression was agreed on"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            let limit = self.limit;
            return Err(Status::out_of_range(format!("a message of {length} bytes; the limit is {limit}")));
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
        let body = request.encode_to_vec();
        let mut framed = vec![0];
        framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        framed.extend(body);
        framed
    }

    fn messages(bytes: &[u8], chunk: usize, limit: usize) -> Messages<DiscoveryRequest> {
        let chunks: Vec<Result<_, Status>> = bytes
            .chunks(chunk)
            .map(|chunk| Ok(http_body::Frame::data(Bytes::copy_from_slice(chunk))))
            .collect();
        Messages::of(Body::new(StreamBody::new(futures_util::stream::iter(chunks))), limit)
    }

    #[tokio::test]
    async fn messages_come_as_they_were_sent_however_they_are_cut() {
        let sent = [request(0), request(3), request(0), request(2000), request(1)];
        let bytes: Vec<u8> = sent.iter().flat_map(framed).collect();
        for chunk in [1, 2, 5, 7, 1000, usize::MAX] {
            let mut messages = messages(&bytes, chunk.min(bytes.len()), 1 << 20);
            let mut heard = Vec::new();
            while let Some(message) = messages.next().await.unwrap() {
                heard.push(message);
            }
            assert_eq!(heard, sent, "in pieces of {chunk}");
            assert_eq!(messages.partial.capacity(), 0, "nothing is kept");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_stream_and_says_why() {
        use tonic::Code;
        let good = framed(&request(3));
        let compressed = [&[1][..], &good[1..]].concat();
        let nonsense = [0, 0, 0, 0, 3, 0xff, 0xff, 0xff];
        for (bytes, limit, code) in [
            (&good[..good.len() - 1], 1 << 20, Code::Internal),
            (&good[..3], 1 << 20, Code::Internal),
            (&good, 10, Code::OutOfRange),
            (&[0, 0xff, 0xff, 0xff, 0xff], 1 << 20, Code::OutOfRange),
            (&compressed, 1 << 20, Code::Unimplemented),
            (&nonsense, 1 << 20, Code::Internal),
        ] {
            for chunk in [1, 100] {
                let status = messages(bytes, chunk, limit).next().await.unwrap_err();
                assert_eq!(status.code(), code, "{bytes:?}: {status}");
            }
        }
    }
}
