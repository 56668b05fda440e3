//! Envoy's output, and the parsed records.

use proptest::prelude::*;

use super::super::line_splitter::{LONGEST, LineSplitter};
use super::*;
use crate::config::level::LogFormat;

const ORIGIN: LogOrigin = LogOrigin { epoch: Epoch::FIRST, pid: Pid::from_raw(12) };

/// All that comes of these bytes.
fn read(written: &[u8]) -> Vec<Record<'static>> {
    let mut pieces = LineSplitter::default();
    let mut reader = EnvoyLogParser::new(ORIGIN);
    let mut records = Vec::new();
    let mut note = |part, piece: &[u8]| {
        let record = reader.read(part, piece, UNIX_EPOCH);
        records.extend(record.map(|Record { time, level, scope, message, fields }| Record {
            time,
            level,
            scope: scope.into_owned().into(),
            message: message.into_owned().into(),
            fields: fields.into_iter().map(|(key, value)| (key, value.into_owned().into())).collect(),
        }));
    };
    pieces.pending.extend_from_slice(written);
    pieces.complete(&mut note);
    pieces.rest(note);
    records
}

fn line(level: &str, message: &str) -> String {
    let message = serde_json::to_string(message).unwrap();
    format!(
        "{{\"time\":\"1795401202.579055\",\"level\":\"{level}\",\"scope\":\"main\",\"thread\":\"7\",\
         \"caller\":\"source/server/server.cc:463\",\"msg\":{message}}}\n"
    )
}

#[test]
fn a_line_of_envoys_becomes_one_of_ours() {
    let expected = Record {
        time: UNIX_EPOCH + Duration::from_micros(1_795_401_202_579_055),
        level: Level::WARN,
        scope: "envoy main".into(),
        message: "caught \"ENVOY_SIGTERM\"\n".into(),
        fields: vec![
            ("epoch", "0".into()),
            ("pid", "12".into()),
            ("thread", "7".into()),
            ("caller", "source/server/server.cc:463".into()),
        ],
    };
    assert_eq!(read(line("warning", "caught \"ENVOY_SIGTERM\"\n").as_bytes()), [expected]);
}

#[test]
fn each_of_envoys_levels_is_one_of_ours() {
    for (envoys, ours) in [
        ("trace", Level::TRACE),
        ("debug", Level::DEBUG),
        ("info", Level::INFO),
        ("warning", Level::WARN),
        ("error", Level::ERROR),
        ("critical", Level::ERROR),
    ] {
        assert_eq!(read(line(envoys, "x").as_bytes())[0].level, ours);
    }
}

#[test]
fn a_line_past_the_log_is_of_the_level_it_seems_to_be() {
    for (line, level) in [
        ("yaml-cpp: error at line 2, column 5: illegal flow end", Level::ERROR),
        ("PARSE ERROR: Argument: --bogus", Level::ERROR),
        ("unable to bind domain socket with base_id=0, id=0, errno=98", Level::ERROR),
        ("[2026-11-23 02:33:22.677][15867][info][main] [source/server/server.cc:1059] no error", Level::INFO),
        ("[2026-11-23 02:33:22.677][15867][critical][main] x", Level::ERROR),
        ("I0000 00:00:1795401202.579055   12 config.cc:1] failed over", Level::INFO),
        ("E0000 00:00:1795401202.579055   12 config.cc:1] x", Level::ERROR),
        (
            "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
            Level::WARN,
        ),
        ("IDEAS of nobody", Level::WARN),
        ("{\"severity\":\"DEBUG\",\"msg\":\"of a format of the user's\"}", Level::WARN),
        (
            "{\"time\":\"soon\",\"level\":\"info\",\"scope\":\"\",\"thread\":\"\",\"caller\":\"\",\"msg\":\"\"}",
            Level::WARN,
        ),
    ] {
        let [record] = &read(line.as_bytes())[..] else { panic!("{line}") };
        assert_eq!((record.level, record.scope.as_ref(), record.message.as_ref()), (level, "envoy", line));
        assert_eq!(record.fields, [("epoch", "0".into()), ("pid", "12".into())]);
    }
    assert_eq!(read(b"\n  \n\r\n"), []);
}

#[test]
fn an_overlong_line_is_told_in_parts_that_each_say_whose_it_is() {
    let message = "ü\n\"".repeat(LONGEST);
    for written in [line("debug", &message), format!("x{}\n", message.replace('\n', " "))] {
        let records = read(written.as_bytes());
        assert!(records.len() > 3, "{}", records.len());
        let told: String = records.iter().map(|record| record.message.as_ref()).collect();
        let is_ours = written.starts_with('{');
        assert_eq!(told, if is_ours { message.as_str() } else { written.trim_end() });
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.level, if is_ours { Level::DEBUG } else { Level::WARN });
            assert_eq!(record.fields.contains(&("thread", "7".into())), is_ours);
            assert_eq!(record.fields.last().unwrap(), &("part", (index + 1).to_string().into()));
        }
    }
    // And the line after it is itself again.
    let records = read([line("debug", &message), line("info", "next")].concat().as_bytes());
    assert_eq!(records.last().unwrap().message, "next");
    assert_eq!(records.last().unwrap().fields.len(), 4);
}

proptest! {
    #[test]
    fn whatever_is_written_json_stays_json_and_text_stays_lines(
        written in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                any::<String>().prop_map(|message| line("info", &message).into_bytes()),
                Just(b"\x1b[31m\xe2\x82".to_vec()),
                (LONGEST - 200..LONGEST + 10).prop_map(|length| vec![b'\\'; length]),
            ],
            0..6,
        )
    ) {
        for record in read(&written.concat()) {
            let json = record.render(LogFormat::Json);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["msg"].as_str(), Some(record.message.as_ref()));
            let text = record.render(LogFormat::Text);
            let last = text.len() - 1;
            prop_assert!(text.char_indices().all(|(at, c)| !c.is_control() || c == '\t' || (c == '\n' && at == last)));
        }
    }
}
