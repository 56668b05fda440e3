//! Durations in Istio's configuration: Go's `1h2m3.5s` and protobuf JSON's `3.500s`.

use std::time::Duration;

/// Parse error of a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 10s, 1m30s or 250ms")]
pub struct NotADuration(String);

/// Parses `1h2m3.5s`, `250ms`, `0`, `0s`. Negative durations are errors: no setting has one.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let fail = || NotADuration(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(fail()),
        };
        let number: f64 = number.parse().map_err(|_| fail())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| fail())?;
        total = total.checked_add(part).ok_or_else(fail)?;
        rest = tail;
    }
    if text.is_empty() { Err(fail()) } else { Ok(total) }
}

/// Formats as protobuf JSON: seconds with 0, 3, 6 or 9 digits, `5s`, `0.250s`.
pub fn print(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match nanos {
        0 => format!("{seconds}s"),
        n if n % 1_000_000 == 0 => format!("{seconds}.{:03}s", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{seconds}.{:06}s", n / 1_000),
        n => format!("{seconds}.{n:09}s"),
    }
}

/// Converts to the message of Envoy's API.
pub fn to_proto(duration: Duration) -> crate::google::protobuf::Duration {
    crate::google::protobuf::Duration {
        // Both fit: Istio's durations are days at most, and `parse` takes what f64 seconds hold.
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// A module for `#[serde(with = "crate::duration::text")]`.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Serializes as protobuf JSON.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::print(*duration))
    }

    /// Deserializes either format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A module for optional durations: `#[serde(with = "crate::duration::maybe")]`, with `default`.
pub mod maybe {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Serializes as protobuf JSON.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(super::print).serialize(serializer)
    }

    /// Deserializes either format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("45s", 45_000),
            ("1m30s", 90_000),
            ("1h2m3.5s", 3_723_500),
            ("250ms", 250),
            ("3.500s", 3500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "5", "s", "-5s", "5x", "5s5", "1e400s", "..s", "99999999999999999999h", "5 s"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for nanos in [0, 1, 1_000, 1_000_000, 250_000_000, 61_000_000_000_u64, 1_500_000_001] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse(&print(duration)), Ok(duration));
        }
    }
}
