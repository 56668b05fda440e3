//! Which proxies a patch is for, by what they said about themselves.

use std::cell::OnceCell;

use pilot_proto::node::NodeMetadata;
use regex::Regex;
use serde_json::{Map, Value};

use crate::api::envoy_filter::ProxyMatch;

/// Longer ones match nothing: they take long to compile, and no version does.
const LONGEST_VERSION: usize = 1024;

/// What a proxy must have said.
#[derive(Debug, Default)]
pub(super) struct ProxyCondition {
    version: Version,
    metadata: Vec<(String, String)>,
}

#[derive(Debug, Default)]
enum Version {
    #[default]
    Any,
    Matching(Regex),
    /// The expression is longer than [`LONGEST_VERSION`].
    Never,
}

/// What a proxy said, written out once for all patches and only if one asks.
pub(super) struct Said<'a> {
    metadata: &'a NodeMetadata,
    all: OnceCell<Map<String, Value>>,
}

// === impl ProxyCondition ===

impl ProxyCondition {
    pub(super) fn of(written: Option<&ProxyMatch>) -> Result<Self, regex::Error> {
        let Some(written) = written else { return Ok(Self::default()) };
        let version = match written.proxy_version.as_str() {
            "" => Version::Any,
            long if long.len() > LONGEST_VERSION => Version::Never,
            expression => Version::Matching(Regex::new(expression)?),
        };
        let metadata = written.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { version, metadata })
    }

    pub(super) fn holds(&self, said: &Said<'_>) -> bool {
        let version = match &self.version {
            Version::Any => true,
            Version::Never => false,
            // Anywhere in the version, as in Istio, unless the expression says `^`.
            Version::Matching(expression) => {
                let version = said.metadata.istio_version.as_deref().filter(|version| !version.is_empty());
                version.is_some_and(|version| expression.is_match(version))
            }
        };
        version && self.metadata.iter().all(|(key, value)| said.is(key, value))
    }
}

// === impl Said ===

impl<'a> Said<'a> {
    pub(super) const fn new(metadata: &'a NodeMetadata) -> Self {
        Self { metadata, all: OnceCell::new() }
    }

    /// Whether it said this. Only strings can be equal to one.
    fn is(&self, key: &str, value: &str) -> bool {
        let all = self.all.get_or_init(|| match serde_json::to_value(self.metadata) {
            Ok(Value::Object(all)) => all,
            // Metadata is a map with string keys: it is always an object.
            _ => Map::new(),
        });
        all.get(key).and_then(Value::as_str) == Some(value)
    }
}
