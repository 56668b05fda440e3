//! Pipes like Envoy's, readers that are stuck, and what comes out.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};

use nix::unistd::Pid;
use tokio::time::timeout;

use super::*;
use crate::supervisor::Epoch;

const ORIGIN: envoy::LogOrigin = envoy::LogOrigin { epoch: Epoch::FIRST, pid: Pid::from_raw(12) };

/// Nothing here takes long unless it hangs.
const END: Duration = Duration::from_mins(1);

/// A sink that takes everything.
fn sink(format: LogFormat) -> (Sink, Receiver<(Stream, Vec<u8>)>) {
    let (written, seen) = channel();
    let sink =
        Sink::start_with(format, move |to, chunk| written.send((to, chunk.to_vec())).unwrap()).unwrap();
    (sink, seen)
}

fn pipe() -> (OwnedFd, io::PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    (reader.into(), writer)
}

fn all(sink: &Sink, seen: &Receiver<(Stream, Vec<u8>)>, stream: Stream) -> Vec<u8> {
    assert_eq!(sink.flush(END), Flushed::Complete);
    seen.try_iter().filter(|(to, _)| *to == stream).flat_map(|(_, chunk)| chunk).collect()
}

#[tokio::test]
async fn access_logs_pass_as_they_are() {
    for written in [&b"GET / 200\n\xff\x1b[31m\nno end"[..], b"", b"\n\n", &b"x".repeat(200_000)] {
        let (sink, seen) = sink(LogFormat::Json);
        let (reader, mut writer) = pipe();
        let bytes = written.to_vec();
        let envoy = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        timeout(END, drain_access(reader, sink.clone())).await.unwrap().unwrap();
        envoy.join().unwrap();
        let mut expected = written.to_vec();
        if !expected.is_empty() && !expected.ends_with(b"\n") {
            expected.push(b'\n');
        }
        assert_eq!(all(&sink, &seen, Stream::Stdout), expected);
    }
}

#[tokio::test]
async fn the_log_comes_out_in_the_form_of_ours() {
    let line = r#"{"time":"1795401202.579055","level":"critical","scope":"main","thread":"7","caller":"a.cc:1","msg":"unable to bind"}"#;
    let written = format!("{line}\ntorn \u{20ac}\n\u{1b}[31mcaf");
    for (format, expected) in [
        (
            LogFormat::Text,
            [
                "2026-11-23T02:33:22.579055Z\terror\tenvoy main\tunable to bind\tepoch=0 pid=12 thread=7 caller=a.cc:1",
                "\twarn\tenvoy\ttorn \u{20ac}\tepoch=0 pid=12",
                "\twarn\tenvoy\t\\u{1b}[31mcaf\u{fffd}\tepoch=0 pid=12",
            ],
        ),
        (
            LogFormat::Json,
            [
                r#""scope":"envoy main","msg":"unable to bind","epoch":"0","pid":"12","thread":"7","caller":"a.cc:1"}"#,
                "\"msg\":\"torn \u{20ac}\",\"epoch\":\"0\",\"pid\":\"12\"}",
                "\"msg\":\"\\u001b[31mcaf\u{fffd}\",\"epoch\":\"0\",\"pid\":\"12\"}",
            ],
        ),
    ] {
        let (sink, seen) = sink(format);
        let (reader, mut writer) = pipe();
        let bytes = [written.as_bytes(), b"\xc3"].concat();
        // A byte at a time, so that everything is torn once.
        let envoy =
            std::thread::spawn(move || bytes.iter().for_each(|byte| writer.write_all(&[*byte]).unwrap()));
        let last = StderrTail::default();
        timeout(END, drain_log(reader, ORIGIN, sink.clone(), last.clone())).await.unwrap().unwrap();
        envoy.join().unwrap();
        let text = String::from_utf8(all(&sink, &seen, Stream::Stderr)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{text}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.ends_with(expected), "{line} {expected}");
        }
        assert_eq!(last.reason().as_deref(), Some("error main: unable to bind"));
    }
}

#[tokio::test]
async fn a_stuck_reader_costs_lines_and_envoy_nothing() {
    let (release, stuck) = channel::<()>();
    let sink = Sink::start_with(LogFormat::Text, move |_, _| stuck.recv().unwrap_or_default()).unwrap();
    let lines = 100_000;
    for drain in [Stream::Stdout, Stream::Stderr] {
        let (reader, mut writer) = pipe();
        let envoy = std::thread::spawn(move || {
            for number in 0..lines {
                writeln!(writer, "{number} of many lines, all in all more than any pipe and any queue holds")
                    .unwrap();
            }
        });
        let read = async {
            match drain {
                Stream::Stdout => drain_access(reader, sink.clone()).await,
                Stream::Stderr => drain_log(reader, ORIGIN, sink.clone(), StderrTail::default()).await,
            }
        };
        // It ends, although no line was read.
        timeout(END, read).await.unwrap().unwrap();
        envoy.join().unwrap();
    }
    assert!((2 * lines - 40_000..2 * lines).contains(&sink.dropped()), "{}", sink.dropped());
    assert!(sink.waiting.load(Ordering::Relaxed) <= WAITING);
    drop(release);
}

#[test]
fn what_does_not_fit_the_queue_is_counted_by_the_line() {
    let (release, stuck) = channel::<()>();
    let (written, seen) = channel();
    let sink = Sink::start_with(LogFormat::Text, move |stream, chunk| {
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
    assert_eq!(sink.flush(Duration::from_millis(1)), Flushed::Incomplete);

    drop(release);
    assert_eq!(seen.recv().unwrap(), (Stream::Stderr, b"line\n".to_vec()));
}

#[test]
fn flush_waits_for_all_that_was_written_before() {
    let (sink, seen) = sink(LogFormat::Text);
    sink.write(Stream::Stdout, b"access\n".to_vec());
    sink.write(Stream::Stdout, b"agent\n".to_vec());
    assert_eq!(all(&sink, &seen, Stream::Stdout), b"access\nagent\n");
    assert_eq!(sink.waiting.load(Ordering::Relaxed), 0);
}
