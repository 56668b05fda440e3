use proptest::{collection::vec, prelude::*};

use super::*;

/// The messages are those that Envoy 1.40 was observed to send.
#[test]
fn requests_are_spelled_as_envoy_spells_them() {
    let check = |request: Request, body: &[u8]| {
        let framed = Message::request(request).framed();
        let (length, written) = framed.split_first_chunk().unwrap();
        assert_eq!((u64::from_be_bytes(*length), written), (body.len() as u64, body));
    };
    let socket = |address: &str, worker_index| {
        Request::PassListenSocket(PassListenSocket {
            address: address.into(),
            worker_index,
            ..Default::default()
        })
    };
    check(socket("tcp://127.0.0.1:46001", 0), b"\n\x19\n\x17\n\x15tcp://127.0.0.1:46001");
    check(socket("tcp://[::1]:46002", 1), b"\n\x17\n\x15\n\x11tcp://[::1]:46002\x10\x01");
    check(Request::ShutdownAdmin(Empty {}), b"\n\x02\x12\x00");
    check(Request::Stats(Empty {}), b"\n\x02\x1a\x00");
    check(Request::DrainListeners(Empty {}), b"\n\x02\x22\x00");
    check(Request::Terminate(Empty {}), b"\n\x02\x2a\x00");
    check(Request::TestConnection(Empty {}), b"\n\x02\x3a\x00");
}

fn prefixed(length: u64, body: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], body].concat()
}

#[test]
fn what_is_no_message_is_said_to_be_none_and_the_next_one_is_read() {
    let check = |datagrams: &[Vec<u8>], expected: MalformedMessage| {
        let mut assembler = MessageAssembler::up_to(MAX_REPLY);
        let last = datagrams.iter().map(|datagram| assembler.push(datagram)).last();
        assert_eq!(last, Some(Progress::Malformed(expected)));
        let terminate = Message::request(Request::Terminate(Empty {}));
        assert_eq!(assembler.push(&terminate.framed()), Progress::Message(terminate));
    };
    check(&[vec![]], MalformedMessage::NoLength(0));
    check(&[vec![0; 7]], MalformedMessage::NoLength(7));
    check(&[prefixed(1, b"\n\x00")], MalformedMessage::Overrun);
    check(&[prefixed(4089, &[0; 4088]), vec![0; 2]], MalformedMessage::Overrun);
    check(&[prefixed(u64::MAX, b"")], MalformedMessage::TooLong(u64::MAX));
    check(&[prefixed(MAX_REPLY + 1, b"")], MalformedMessage::TooLong(MAX_REPLY + 1));
    // A length-delimited field that ends before it begins.
    let error = Message::decode(&b"\n\x05"[..]).unwrap_err();
    check(&[prefixed(2, b"\n\x05")], MalformedMessage::Unreadable(error));
}

/// A `Stats` answer as a parent with many statistics gives it.
fn full_stats(memory: Option<u64>, connections: Option<u64>, rest: usize) -> Vec<u8> {
    use prost::encoding::encode_varint;
    let mut stats = Vec::new();
    for (tag, value) in [(0x08, memory), (0x10, connections), (0x1a, Some(rest as u64))] {
        if let Some(value) = value {
            stats.push(tag);
            encode_varint(value, &mut stats);
        }
    }
    stats.extend(vec![b'x'; rest]);
    for tag in [0x1a, 0x12] {
        let mut outer = vec![tag];
        encode_varint(stats.len() as u64, &mut outer);
        outer.extend(&stats);
        stats = outer;
    }
    prefixed(stats.len() as u64, &stats)
}

fn collect(message: &[u8]) -> Vec<Progress> {
    let mut assembler = MessageAssembler::up_to(MAX_REPLY);
    message.chunks(DATAGRAM).map(|datagram| assembler.push(datagram)).collect()
}

#[test]
fn of_long_statistics_the_head_is_enough() {
    let check = |memory: Option<u64>, connections: Option<u64>, expected: (u64, u64)| {
        let mut progress = collect(&full_stats(memory, connections, 100_000));
        let Some(Progress::Long(head)) = progress.pop() else { panic!("{progress:?}") };
        assert!(head.len() < DATAGRAM && progress.iter().all(|before| *before == Progress::More));
        let stats = Stats::from_head(&head).unwrap();
        assert_eq!((stats.memory_allocated, stats.num_connections), expected);
    };
    check(Some(8_135_904), Some(830), (8_135_904, 830));
    // Zeros are not written.
    check(Some(8_135_904), None, (8_135_904, 0));
    check(None, None, (0, 0));
    assert_eq!(Stats::from_head(b"\x12\x02\x12\x00"), None);
    assert_eq!(Stats::from_head(b"\x12"), None);
}

#[test]
fn short_statistics_are_a_message() {
    let stats = Stats { memory_allocated: 1, num_connections: 2 };
    let message = Message::reply(Reply::Stats(stats));
    assert_eq!(collect(&full_stats(Some(1), Some(2), 10)), [Progress::Message(message)]);
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (".{0,200}", any::<u32>(), ".{0,50}").prop_map(|(address, worker_index, network_namespace)| {
            Request::PassListenSocket(PassListenSocket { address, worker_index, network_namespace })
        }),
        Just(Request::ShutdownAdmin(Empty {})),
        Just(Request::Stats(Empty {})),
        Just(Request::DrainListeners(Empty {})),
        Just(Request::Terminate(Empty {})),
        Just(Request::TestConnection(Empty {})),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        any::<i32>().prop_map(|fd| Reply::PassListenSocket(PassedSocket { fd })),
        any::<(u64, bool)>().prop_map(|(original_start_time_unix_seconds, enable_reuse_port_default)| {
            Reply::ShutdownAdmin(AdminShutDown {
                original_start_time_unix_seconds,
                enable_reuse_port_default,
            })
        }),
        any::<(u64, u64)>().prop_map(|(memory_allocated, num_connections)| {
            Reply::Stats(Stats { memory_allocated, num_connections })
        }),
    ]
}

/// Any datagrams at all, and such as begin like a message.
fn datagrams() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let noise = vec(any::<u8>(), 0..64);
    let begins = (0..200_u64, vec(any::<u8>(), 0..64)).prop_map(|(length, body)| prefixed(length, &body));
    let full = Just(vec![0; DATAGRAM]);
    vec(prop_oneof![noise, begins, full], 0..20)
}

proptest! {
    #[test]
    fn every_message_is_read_as_it_was_written(messages in vec(prop_oneof![
        request().prop_map(Message::request),
        reply().prop_map(Message::reply),
        Just(Message::not_recognized()),
    ], 1..5)) {
        let mut assembler = MessageAssembler::up_to(MAX_REQUEST);
        for message in messages {
            prop_assert_eq!(assembler.push(&message.framed()), Progress::Message(message));
        }
    }

    #[test]
    fn no_datagram_does_any_harm(datagrams in datagrams(), longest in prop_oneof![Just(MAX_REQUEST), Just(MAX_REPLY)]) {
        let mut assembler = MessageAssembler::up_to(longest);
        for datagram in datagrams {
            if let Progress::Long(head) = assembler.push(&datagram) {
                let _stats = Stats::from_head(&head);
            }
            prop_assert!(assembler.head.capacity() <= DATAGRAM);
        }
    }

    #[test]
    fn no_head_of_statistics_does_any_harm(head in vec(any::<u8>(), 0..64)) {
        let _stats = Stats::from_head(&[b"\x12\x7f\x1a\x7f", &head[..]].concat());
        let _stats = Stats::from_head(&head);
    }
}
