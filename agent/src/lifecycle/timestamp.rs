//! A point in time for people and other programs: RFC 3339 in UTC, to the millisecond.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost_types::Timestamp as ProtoTimestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A point in time by the wall clock: good for showing, not for measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(SystemTime);

// === impl Timestamp ===

impl Timestamp {
    /// This one.
    pub(crate) fn now() -> Self {
        SystemTime::now().into()
    }

    /// Returns the time until a later timestamp; `None` if that is earlier.
    pub(crate) fn until(self, later: Self) -> Option<Duration> {
        later.0.duration_since(self.0).ok()
    }

    /// Returns the timestamp that is later by this duration.
    #[must_use]
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.checked_add(duration).unwrap_or(self.0))
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self(UNIX_EPOCH)
    }
}

impl From<SystemTime> for Timestamp {
    /// Cut to milliseconds, so that what is read back is what was written.
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(UNIX_EPOCH + Duration::from_millis(millis.try_into().unwrap_or(0)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ProtoTimestamp::from(self.0).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: ProtoTimestamp = text.parse().map_err(D::Error::custom)?;
        SystemTime::try_from(timestamp).map(Self::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_and_read_to_the_millisecond() {
        let moment = Timestamp::from(UNIX_EPOCH + Duration::from_micros(1_764_000_000_123_999));
        let json = serde_json::to_string(&moment).unwrap();
        assert_eq!(json, "\"2025-11-24T16:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), moment);
        for text in ["\"\"", "\"yesterday\"", "3", "\"9999999-01-01T00:00:00Z\""] {
            assert!(serde_json::from_str::<Timestamp>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_to_come_is_not_past() {
        let now = Timestamp::now();
        let later = now.after(Duration::from_secs(3));
        assert_eq!(now.until(later), Some(Duration::from_secs(3)));
        assert_eq!(later.until(now), None);
    }
}
