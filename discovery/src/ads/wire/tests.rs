use std::task::Wake;

use http_body::Body as _;
use tonic::Code;

use super::*;

const SOON: Duration = Duration::from_secs(10);

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

/// What HTTP/2 gets when it asks for more: bytes, the code of the end, or nothing yet.
#[derive(Debug, PartialEq)]
enum Got {
    Bytes(Bytes),
    End(i32),
    Nothing,
    Over,
}

fn poll<H: Unpin>(body: &mut ResponseBody<H>) -> Got {
    let waker = Arc::new(Nobody).into();
    match Pin::new(body).poll_frame(&mut Context::from_waker(&waker)) {
        Poll::Pending => Got::Nothing,
        Poll::Ready(None) => Got::Over,
        Poll::Ready(Some(frame)) => match frame.unwrap().into_data() {
            Ok(bytes) => Got::Bytes(bytes),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap();
                Got::End(trailers["grpc-status"].to_str().unwrap().parse().unwrap())
            }
        },
    }
}

fn bytes(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

#[tokio::test]
async fn a_message_is_a_prefixed_head_and_a_block_that_is_not_copied() {
    let (outbox, mut body) = outbox(());
    assert_eq!(poll(&mut body), Got::Nothing);
    let block = Bytes::from(vec![7; 100]);
    outbox.reserve(SOON).await.unwrap().send([bytes(b"head"), block.clone()]).unwrap();
    assert_eq!(poll(&mut body), Got::Bytes(bytes(b"\0\0\0\0\x68head")));
    let Got::Bytes(sent) = poll(&mut body) else { panic!() };
    assert_eq!(sent.as_ptr(), block.as_ptr());
    assert_eq!(poll(&mut body), Got::Nothing);

    // What is empty is left out; an empty message is a message.
    outbox.reserve(SOON).await.unwrap().send([Bytes::new(), Bytes::new()]).unwrap();
    assert_eq!(poll(&mut body), Got::Bytes(bytes(b"\0\0\0\0\0")));
    assert_eq!(poll(&mut body), Got::Nothing);
}

#[tokio::test]
async fn there_is_room_again_when_the_last_piece_is_taken_and_more_is_asked_for() {
    let (outbox, mut body) = outbox(());
    let late = async |outbox: &Outbox| outbox.reserve(Duration::ZERO).await.err().map(|end| end.code());
    assert_eq!(late(&outbox).await, Some(Code::DeadlineExceeded), "nobody has asked yet");
    assert_eq!(poll(&mut body), Got::Nothing);
    outbox.reserve(SOON).await.unwrap().send([bytes(b"h"), Bytes::from(vec![0; 100_000])]).unwrap();
    let mut lengths = Vec::new();
    while let Got::Bytes(piece) = poll(&mut body) {
        assert!(lengths.len() > 2 || late(&outbox).await.is_some(), "room after {lengths:?}");
        lengths.push(piece.len());
    }
    assert_eq!(lengths, [6, 100_000 - LAST_PIECE, LAST_PIECE]);
    drop(outbox.reserve(SOON).await.unwrap());
}

#[tokio::test]
async fn who_waits_for_room_hears_of_it_and_of_the_clients_end() {
    let (outbox, mut body) = outbox(());
    let outbox = Arc::new(outbox);
    for gone in [false, true] {
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.reserve(SOON).await.map(drop).map_err(|end| end.code()) }
        });
        tokio::task::yield_now().await;
        if gone {
            outbox.reserve(SOON).await.unwrap().send([bytes(b"x"), Bytes::new()]).unwrap();
            drop(body);
            assert_eq!(outbox.reserve(SOON).await.err().map(|end| end.code()), Some(Code::Cancelled));
            drop(waiting.await);
            return;
        }
        assert_eq!(poll(&mut body), Got::Nothing);
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn the_end_comes_after_the_message_and_the_first_end_holds() {
    let (outbox, mut body) = outbox(());
    assert_eq!(poll(&mut body), Got::Nothing);
    outbox.reserve(SOON).await.unwrap().send([bytes(b"last"), Bytes::new()]).unwrap();
    outbox.end(Status::unavailable("enough"));
    drop(outbox);
    assert!(matches!(poll(&mut body), Got::Bytes(_)));
    assert_eq!(poll(&mut body), Got::End(14));
    assert_eq!(poll(&mut body), Got::Over);
}

#[test]
fn a_task_that_fails_ends_its_stream() {
    let (outbox, mut body) = outbox(());
    drop(outbox);
    assert_eq!(poll(&mut body), Got::End(13));
}

#[test]
fn four_gigabytes_do_not_fit() {
    assert!(prefixed(&bytes(b"h"), u32::MAX as usize - 1).is_ok());
    for rest in [u32::MAX as usize, usize::MAX] {
        assert_eq!(prefixed(&bytes(b"h"), rest).unwrap_err().code(), Code::Internal);
    }
}
