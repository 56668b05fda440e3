//! Our own lines as they go out, and levels that change under way.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tracing::{debug, info, warn};

use super::super::Flushed;
use super::*;

/// A log of this format at these levels, and what has been written to it.
fn log(
    format: LogFormat,
    levels: &str,
) -> (impl Subscriber + Send + Sync, LevelControl, Sink, Receiver<Vec<u8>>) {
    let (written, seen) = channel();
    let sink = Sink::start_with(format, move |_, chunk| written.send(chunk.to_vec()).unwrap()).unwrap();
    let (subscriber, control) =
        subscriber(&levels.parse().unwrap(), LogWriter { sink: sink.clone(), to: Stream::Stdout });
    (subscriber, control, sink, seen)
}

fn lines(sink: &Sink, seen: &Receiver<Vec<u8>>) -> Vec<String> {
    assert_eq!(sink.flush(Duration::from_mins(1)), Flushed::Complete);
    seen.try_iter().map(|line| String::from_utf8(line).unwrap()).collect()
}

#[test]
fn our_lines_have_the_form_that_envoys_have() {
    let (subscriber, _control, sink, seen) = log(LogFormat::Text, "info");
    tracing::subscriber::with_default(subscriber, || {
        warn!(epoch = 1, reason = "no answer", error = %"\u{1b}[31m", "killing\nEnvoy");
    });
    let [line] = &lines(&sink, &seen)[..] else { panic!("not one line") };
    let (time, rest) = line.split_once('\t').unwrap();
    assert_eq!(time.len(), "2026-11-23T02:33:22.579055Z".len());
    assert_eq!(rest, "warn\tlogs\tkilling\\nEnvoy\tepoch=1 reason=\"no answer\" error=\"\\u001b[31m\"\n");

    let (subscriber, _control, sink, seen) = log(LogFormat::Json, "info");
    tracing::subscriber::with_default(subscriber, || info!(epoch = 1, "started"));
    let json: serde_json::Value = serde_json::from_str(&lines(&sink, &seen)[0]).unwrap();
    let fields = ["level", "scope", "msg", "epoch"].map(|key| json[key].as_str());
    assert_eq!(fields, ["info", "logs", "started", "1"].map(Some));
}

#[test]
fn levels_change_under_way() {
    let (subscriber, control, sink, seen) = log(LogFormat::Text, "default:info");
    tracing::subscriber::with_default(subscriber, || {
        debug!("before");
        control.set("warn,logs:debug").unwrap();
        debug!("between");
        assert_eq!(
            control.set("loud").unwrap_err().to_string(),
            "\"loud\" is none of debug, info, warn, error, fatal, none, or scope:level"
        );
        debug!("still");
        control.set("none").unwrap();
        warn!("after");
    });
    let messages: Vec<_> =
        lines(&sink, &seen).iter().map(|line| line.trim().rsplit('\t').next().unwrap().to_owned()).collect();
    assert_eq!(messages, ["between", "still"]);
}

#[test]
fn a_scope_is_a_module_of_ours() {
    let targets = targets(&"info,driver:debug,status:none".parse().unwrap());
    let enabled = |target, level| targets.would_enable(target, &level);
    assert!(enabled("pilot_agent::driver::observer", tracing::Level::DEBUG));
    assert!(enabled("pilot_agent::config", tracing::Level::INFO));
    assert!(!enabled("pilot_agent::config", tracing::Level::DEBUG));
    assert!(!enabled("pilot_agent::status", tracing::Level::ERROR));
    assert!(!enabled("hyper", tracing::Level::INFO));
    for (target, expected) in [
        ("pilot_agent", "default"),
        ("pilot_agent::driver::observer", "driver"),
        ("h2::client", "h2::client"),
    ] {
        assert_eq!(scope(target), expected);
    }
}
