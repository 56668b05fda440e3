//! One line of the log and its two forms, for Envoy's lines and ours alike. As text, tabs between the parts:
//!
//! ```text
//! 2026-11-23T02:29:07.967587Z  warn  envoy main  caught ENVOY_SIGTERM  epoch=0 pid=12 thread=12
//! ```
//!
//! and as JSON the same with the keys `level`, `time`, `scope` and `msg`, as in Istio. Every value is a string, so that a field
//! always has the same type.
//!
//! A line stays a single line, and cannot control a terminal: control characters are escaped. Source and destination of a line
//! are not known here.
//! characters are escaped. Where a line comes from and where it goes is not known here.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::Level;

use crate::config::level::LogFormat;

/// Keys of every line in JSON. A field of the same name gets an underscore.
const KEYS: [&str; 4] = ["level", "time", "scope", "msg"];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Time of the log call.
    pub(crate) time: SystemTime,
    /// Level.
    pub(crate) level: Level,
    /// Scope: a module of the agent, or `envoy` and a component of Envoy.
    pub(crate) scope: Cow<'a, str>,
    /// Message.
    pub(crate) message: Cow<'a, str>,
    /// And about what, in this order.
    pub(crate) fields: Vec<(&'static str, Cow<'a, str>)>,
}

/// Text with quotes, backslashes and control characters escaped as in JSON.
struct Json<'a>(&'a str);

/// A text that is harmless on a terminal.
pub(crate) struct Sanitized<'a>(pub(crate) &'a str);

/// A value that ends where its reader thinks it does.
struct Value<'a>(&'a str);

/// UTC in microseconds, as RFC 3339 has it.
struct Rfc3339(SystemTime);

// === impl Record ===

impl Record<'_> {
    /// The line, with its newline.
    pub(crate) fn render(&self, format: LogFormat) -> String {
        let mut line = String::with_capacity(256);
        let written = match format {
            LogFormat::Text => self.text(&mut line),
            LogFormat::Json => self.json(&mut line),
        };
        // A String takes everything.
        debug_assert_eq!(written, Ok(()));
        line
    }

    fn text(&self, line: &mut String) -> fmt::Result {
        let (time, level) = (Rfc3339(self.time), name(self.level));
        write!(line, "{time}\t{level}\t{}\t{}", Sanitized(&self.scope), Sanitized(&self.message))?;
        for (index, (key, value)) in self.fields.iter().enumerate() {
            let before = if index == 0 { '\t' } else { ' ' };
            write!(line, "{before}{key}={}", Value(value))?;
        }
        line.write_char('\n')
    }

    fn json(&self, line: &mut String) -> fmt::Result {
        let (time, level) = (Rfc3339(self.time), name(self.level));
        let (scope, message) = (Json(&self.scope), Json(&self.message));
        write!(line, r#"{{"level":"{level}","time":"{time}","scope":"{scope}","msg":"{message}""#)?;
        for (key, value) in &self.fields {
            // Duplicate keys in an object are read in different ways.
            let after = if KEYS.contains(key) { "_" } else { "" };
            write!(line, r#","{}{after}":"{}""#, Json(key), Json(value))?;
        }
        line.write_str("}\n")
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Returns `true` for a character that moves the cursor, ends a line or changes the direction of writing. All of them are below
/// U+10000.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

// === impl Json, Sanitized, Value ===

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if acts(c) => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if acts(c) { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = !self.0.is_empty() && !self.0.contains(|c: char| c.is_whitespace() || c == '"' || acts(c));
        if bare { f.write_str(self.0) } else { write!(f, "\"{}\"", Json(self.0)) }
    }
}

// === impl Rfc3339 ===

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 24 * 60 * 60;
        // A clock before 1970 is wrong anyway.
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = since.subsec_micros();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Year, month and day of a day since 1970, counted in years that begin with March, so that the leap day is
/// their last (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str, value: &str) -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_micros(1_795_401_202_579_055),
            level: Level::WARN,
            scope: "envoy main".into(),
            message: message.to_owned().into(),
            fields: vec![("epoch", "0".into()), ("value", value.to_owned().into())],
        }
    }

    #[test]
    fn a_line_has_two_forms() {
        let record = record("caught ENVOY_SIGTERM", "a b");
        assert_eq!(
            record.render(LogFormat::Text),
            "2026-11-23T02:33:22.579055Z\twarn\tenvoy main\tcaught ENVOY_SIGTERM\tepoch=0 value=\"a b\"\n"
        );
        assert_eq!(
            record.render(LogFormat::Json),
            "{\"level\":\"warn\",\"time\":\"2026-11-23T02:33:22.579055Z\",\"scope\":\"envoy main\",\
             \"msg\":\"caught ENVOY_SIGTERM\",\"epoch\":\"0\",\"value\":\"a b\"}\n"
        );
    }

    #[test]
    fn a_field_does_not_take_the_place_of_what_every_line_has() {
        let fields = KEYS.map(|key| (key, key.into())).into();
        let json = Record { fields, ..record("said", "") }.render(LogFormat::Json);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((read["msg"].as_str(), read["scope"].as_str()), (Some("said"), Some("envoy main")));
        assert_eq!((read["msg_"].as_str(), read["scope_"].as_str()), (Some("msg"), Some("scope")));
    }

    #[test]
    fn words_cannot_leave_their_line_nor_act_on_a_terminal() {
        for words in
            ["a\nb", "\u{1b}[31m red", "\u{9b}2J", "c\r", "\u{202e}txt.exe", "\0", "q\" \\", "tab\t=", "ü€😀"]
        {
            let record = record(words, words);
            let text = record.render(LogFormat::Text);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.chars().all(|c| c == '\n' || c == '\t' || !acts(c)), "{text:?}");
            assert_eq!(text.matches('\t').count(), 4, "{text:?}");

            let json = record.render(LogFormat::Json);
            assert!(json.trim_end_matches('\n').chars().all(|c| !acts(c)), "{json:?}");
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!((read["msg"].as_str(), read["value"].as_str()), (Some(words), Some(words)));
        }
    }

    #[test]
    fn a_value_ends_where_it_seems_to() {
        for (value, shown) in
            [("a", "a"), ("", "\"\""), ("a pid=1", "\"a pid=1\""), ("a\"", "\"a\\\"\""), ("a=b", "a=b")]
        {
            assert_eq!(Value(value).to_string(), shown);
        }
    }

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (10_956, (1999, 12, 31)),
            (11_016, (2000, 2, 29)),
            (20_780, (2026, 11, 23)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}
