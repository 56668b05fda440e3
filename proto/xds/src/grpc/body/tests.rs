use std::task::Wake;
use std::time::Duration;

use http_body::Body as _;

use super::*;

struct NoWaker;

impl Wake for NoWaker {
    fn wake(self: Arc<Self>) {}
}

/// Result of one poll by HTTP/2.
#[derive(Debug, PartialEq)]
enum Polled {
    Bytes(Bytes),
    /// Code of the trailers.
    End(i32),
    Pending,
    Over,
}

fn poll<G: Unpin>(body: &mut ResponseBody<G>) -> Polled {
    let waker = Arc::new(NoWaker).into();
    match Pin::new(body).poll_frame(&mut Context::from_waker(&waker)) {
        Poll::Pending => Polled::Pending,
        Poll::Ready(None) => Polled::Over,
        Poll::Ready(Some(frame)) => match frame.unwrap().into_data() {
            Ok(bytes) => Polled::Bytes(bytes),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap();
                Polled::End(trailers["grpc-status"].to_str().unwrap().parse().unwrap())
            }
        },
    }
}

fn bytes(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

async fn reserve(sender: &ResponseSender) -> Result<SendPermit, Status> {
    tokio::time::timeout(Duration::from_secs(10), sender.reserve()).await.unwrap()
}

async fn has_room(sender: &ResponseSender) -> bool {
    tokio::time::timeout(Duration::ZERO, sender.reserve()).await.is_ok()
}

#[tokio::test]
async fn message_is_a_prefixed_head_and_a_block_that_is_not_copied() {
    let (sender, mut body) = response_body(());
    assert_eq!(poll(&mut body), Polled::Pending);
    let block = Bytes::from(vec![7; 100]);
    reserve(&sender).await.unwrap().send([bytes(b"head"), block.clone()]).unwrap();
    assert_eq!(poll(&mut body), Polled::Bytes(bytes(b"\0\0\0\0\x68head")));
    let Polled::Bytes(sent) = poll(&mut body) else { panic!() };
    assert_eq!(sent.as_ptr(), block.as_ptr());
    assert_eq!(poll(&mut body), Polled::Pending);

    // An empty chunk is omitted; an empty message is a message.
    reserve(&sender).await.unwrap().send([Bytes::new(), Bytes::new()]).unwrap();
    assert_eq!(poll(&mut body), Polled::Bytes(bytes(b"\0\0\0\0\0")));
    assert_eq!(poll(&mut body), Polled::Pending);
}

#[tokio::test]
async fn sender_has_room_when_the_last_chunk_is_taken_and_another_one_is_polled() {
    let (sender, mut body) = response_body(());
    assert!(!has_room(&sender).await, "not polled yet");
    assert_eq!(poll(&mut body), Polled::Pending);
    reserve(&sender).await.unwrap().send([bytes(b"h"), Bytes::from(vec![0; 100_000])]).unwrap();
    let mut lengths = Vec::new();
    while let Polled::Bytes(chunk) = poll(&mut body) {
        assert!(lengths.len() > 2 || !has_room(&sender).await, "room after {lengths:?}");
        lengths.push(chunk.len());
    }
    assert_eq!(lengths, [6, 100_000 - LAST_CHUNK, LAST_CHUNK]);
    drop(reserve(&sender).await.unwrap());
}

#[tokio::test]
async fn sender_that_waits_for_room_is_woken_by_room_and_by_the_end_of_the_client() {
    let (sender, mut body) = response_body(());
    let sender = Arc::new(sender);
    let waiting = |sender: &Arc<ResponseSender>| {
        let sender = sender.clone();
        tokio::spawn(async move { reserve(&sender).await.map(drop).map_err(|end| end.code()) })
    };
    let task = waiting(&sender);
    tokio::task::yield_now().await;
    assert_eq!(poll(&mut body), Polled::Pending);
    assert_eq!(task.await.unwrap(), Ok(()));

    reserve(&sender).await.unwrap().send([bytes(b"x"), Bytes::new()]).unwrap();
    let task = waiting(&sender);
    tokio::task::yield_now().await;
    drop(body);
    assert_eq!(task.await.unwrap(), Err(tonic::Code::Cancelled));
}

#[tokio::test]
async fn end_follows_the_message_and_only_the_first_end_counts() {
    let (sender, mut body) = response_body(());
    assert_eq!(poll(&mut body), Polled::Pending);
    reserve(&sender).await.unwrap().send([bytes(b"last"), Bytes::new()]).unwrap();
    sender.end(Status::unavailable("test"));
    drop(sender);
    assert!(matches!(poll(&mut body), Polled::Bytes(_)));
    assert_eq!(poll(&mut body), Polled::End(14));
    assert_eq!(poll(&mut body), Polled::Over);
}

#[test]
fn sender_that_is_dropped_ends_the_stream_as_internal_error() {
    let (sender, mut body) = response_body(());
    drop(sender);
    assert_eq!(poll(&mut body), Polled::End(13));
}
