//! Serde formats of fields that JSON has no type for. Deserialization is as lenient as Istio's:
//! numbers may be in quotes, durations may be Go's.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Returns `true` if protobuf's JSON omits the value.
pub(super) fn is_zero<T: Default + PartialEq>(field: &T) -> bool {
    *field == T::default()
}

/// A number, optionally in quotes.
pub(super) fn number<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64>,
{
    let value = Value::deserialize(deserializer)?;
    let whole = match &value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    whole
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| D::Error::custom(format!("{value} is not a whole number in range")))
}

/// An optional number, so that 0 differs from unset.
pub(super) fn wrapped_number<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64>,
{
    number(deserializer).map(Some)
}

/// A `#[serde(with)]` module for optional durations.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use crate::duration::text;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => text::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        text::deserialize(deserializer).map(Some)
    }
}
