//! gRPC messages in HTTP/2 bodies, without the buffers of a general codec.
//!
//! Every message has a prefix of five bytes: one for compression (never used here), four for the length.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

mod body;
mod decoder;

use bytes::{BufMut as _, Bytes, BytesMut};
use tonic::Status;

pub use body::{ResponseBody, ResponseSender, SendPermit, response_body};
pub use decoder::MessageDecoder;

/// Length of the prefix of a message, in bytes.
const PREFIX: usize = 5;

/// Returns a message's first chunk with the prefix of the whole message, which has `rest` more bytes.
///
/// # Errors
///
/// `INTERNAL` if the message is 4 GiB or larger.
pub fn prefixed(head: &[u8], rest: usize) -> Result<Bytes, Status> {
    let length = head.len().checked_add(rest).and_then(|length| u32::try_from(length).ok());
    let length = length.ok_or_else(|| Status::internal("message exceeds 4 GiB, the limit of gRPC"))?;
    let mut framed = BytesMut::with_capacity(PREFIX + head.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.extend_from_slice(head);
    Ok(framed.freeze())
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn prefix_limits_messages_to_four_gibibytes() {
        assert!(prefixed(b"h", u32::MAX as usize - 1).is_ok());
        for rest in [u32::MAX as usize, usize::MAX] {
            assert_eq!(prefixed(b"h", rest).unwrap_err().code(), Code::Internal);
        }
    }
}
