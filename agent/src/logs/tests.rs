//! Whole lines, a stuck reader, the last words.

use std::sync::mpsc::channel;

use super::*;

/// Feeds the pieces one by one; what is passed on after each, and at the end.
fn check(pieces: &[&str], expected: &[&str]) {
    let mut lines = Lines::default();
    let mut passed = Vec::new();
    for piece in pieces {
        lines.pending.extend_from_slice(piece.as_bytes());
        passed.extend(lines.complete());
    }
    passed.extend(lines.rest());
    let passed: Vec<_> = passed.iter().map(|chunk| String::from_utf8_lossy(chunk)).collect();
    assert_eq!(passed, expected, "{pieces:?}");
}

#[test]
fn only_whole_lines_are_passed_on() {
    check(&["one\ntwo\n"], &["one\ntwo\n"]);
    check(&["one\ntw", "o\n"], &["one\n", "two\n"]);
    check(&["no end"], &["no end\n"]);
    check(&[], &[]);
    let long = "x".repeat(CHUNK);
    check(&[&long, "y\n"], &[&long, "y\n"]);
}

#[test]
fn the_last_words_are_the_last_line_that_says_something() {
    let last = LastWords::default();
    assert_eq!(last.get(), None);
    last.note(b"[info] starting\n[critical] unable to bind\n\n");
    assert_eq!(last.get().as_deref(), Some("[critical] unable to bind"));
}

#[test]
fn a_stuck_reader_costs_lines_and_nobody_time() {
    let (release, stuck) = channel::<()>();
    let (written, seen) = channel();
    let sink = Sink::start_with(move |stream, chunk| {
        stuck.recv().unwrap_or_default();
        written.send((stream, chunk.to_vec())).unwrap();
    })
    .unwrap();

    // One is with the thread (or about to be), the queue holds the rest.
    let surplus = 5;
    for _ in 0..QUEUE + 1 + surplus {
        sink.write(Stream::Stderr, b"line\n".to_vec());
    }
    assert!((5..=6).contains(&sink.dropped()), "{}", sink.dropped());
    assert_eq!(sink.flush(Duration::from_millis(1)), Flushed::NotEverything);

    drop(release);
    assert_eq!(seen.recv().unwrap(), (Stream::Stderr, b"line\n".to_vec()));
}

#[test]
fn flush_waits_for_all_that_was_written_before() {
    let (written, seen) = channel();
    let sink = Sink::start_with(move |_, chunk| written.send(chunk.to_vec()).unwrap()).unwrap();
    sink.write(Stream::Stdout, b"access\n".to_vec());
    write!(OwnLog::new(sink.clone(), Stream::Stderr).make_writer(), "agent {}", 1).unwrap();
    assert_eq!(sink.flush(Duration::from_secs(5)), Flushed::Everything);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [b"access\n".to_vec(), b"agent 1".to_vec()]);
}
