//! Conditions of patches on proxies, by node metadata.

use std::cell::OnceCell;

use pilot_proto::node::NodeMetadata;
use regex::Regex;
use serde_json::{Map, Value};

use crate::api::envoy_filter::ProxyMatch;

/// Longer expressions match nothing: compiling them takes long, and no version needs them.
const LONGEST_VERSION: usize = 1024;

/// Condition on node metadata.
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

/// Node metadata of a proxy, encoded at most once for all patches.
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
            // Anywhere in the version, as in Istio, unless the expression begins with `^`.
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

    /// Returns `true` if the metadata has this value. Only strings are compared.
    fn is(&self, key: &str, value: &str) -> bool {
        let all = self.all.get_or_init(|| match serde_json::to_value(self.metadata) {
            Ok(Value::Object(all)) => all,
            // Metadata is always an object.
            _ => Map::new(),
        });
        all.get(key).and_then(Value::as_str) == Some(value)
    }
}
