//! Values that several kinds have.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// A `double`. Ordered and compared as IEEE 754 totally orders numbers, so that what holds one can be a key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Double(pub f64);

/// A share of something; 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// Of a hundred.
    pub value: Double,
}

/// A number of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// 1 to 65535.
    pub number: u32,
}

/// What a text has to be. Istio's `oneof match_type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// Nothing was said: present, whatever it is.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// This.
    Exact(String),
    /// It begins with this.
    Prefix(String),
    /// All of it matches this RE2 expression.
    Regex(String),
}

/// Text by text.
pub type Map = BTreeMap<String, String>;

pub(super) use pilot_proto::duration::maybe as duration;

// === impl Double ===

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Double {}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Double {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Double {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
