//! Values in Kubernetes' formats: times, ports, addresses.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{self, Deserializer, Error, Unexpected, Visitor};

/// Time in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) i64);

/// Port by number or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IntOrString {
    /// Number.
    Number(u16),
    /// Name.
    Name(String),
}

// === impl Timestamp ===

impl Timestamp {
    /// Parses RFC 3339, `2026-08-22T10:00:00Z`. Fractions of seconds are ignored.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once(['T', 't'])?;
        let zone_at = rest.find(['Z', 'z', '+', '-'])?;
        let (time, zone) = (rest.get(..zone_at)?, rest.get(zone_at..)?);
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
        let offset = match zone.strip_prefix(['+', '-']) {
            None => (zone.len() == 1).then_some(0)?,
            Some(offset) => {
                let [hours, minutes] = numbers(offset, ':', [2, 2])?;
                let seconds = hours * 3600 + minutes * 60;
                if zone.starts_with('-') { -seconds } else { seconds }
            }
        };
        let in_range = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60
            && !fraction.is_empty()
            && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        in_range.then_some(Self(seconds - offset))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not an RFC 3339 time")))
    }
}

/// Parses `N` numbers, each with a fixed number of digits.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (slot, length) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *slot = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(found)
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Returns the days since 1970. Years are counted from March, so that the leap day is the last day.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

// === impl IntOrString ===

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrName;

        impl Visitor<'_> for NumberOrName {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or the name of a port")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<IntOrString, E> {
                checked_port(i64::try_from(number).unwrap_or(i64::MAX)).map(IntOrString::Number)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<IntOrString, E> {
                checked_port(number).map(IntOrString::Number)
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<IntOrString, E> {
                if name.is_empty() {
                    return Err(E::invalid_value(Unexpected::Str(name), &self));
                }
                Ok(IntOrString::Name(name.to_owned()))
            }
        }

        deserializer.deserialize_any(NumberOrName)
    }
}

/// Returns a port from 1 to 65535. The message of `u16` would not name the range.
fn checked_port<E: de::Error>(number: i64) -> Result<u16, E> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| E::custom(format!("{number} is no port: 1 to 65535")))
}

pub(super) fn port_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    checked_port(i64::deserialize(deserializer)?)
}

pub(super) fn maybe_port_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Option::<i64>::deserialize(deserializer)?.map(checked_port).transpose()
}

/// Deserializes an address. The API server writes an empty string for no address.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| D::Error::custom(format!("{text:?} is no IP address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2026-08-22T10:11:12Z", Some(1_787_393_472)),
            ("2026-08-22T10:11:12.987Z", Some(1_787_393_472)),
            ("2026-08-22T12:11:12+02:00", Some(1_787_393_472)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2001-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-08-22 10:11:12Z", None),
            ("2026-08-22T10:11:12", None),
            ("2026-08-22T10:11:12.Z", None),
            ("2026-8-22T10:11:12Z", None),
            ("+026-08-22T10:11:12Z", None),
            ("", None),
        ] {
            assert_eq!(Timestamp::parse(text).map(|time| time.0), seconds, "{text}");
        }
    }
}
