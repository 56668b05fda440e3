//! Settings of the debug interface, from Istio's environment variables.

use super::environment;

/// Parts of the debug interface that are enabled, and the authentication they require.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DebugConfig {
    /// `ENABLE_DEBUG_ON_HTTP`: pages on the HTTP ports. The debug types on xDS are independent of it.
    pub(crate) http: Switch,
    /// `ENABLE_DEBUG_ENDPOINT_AUTH`: callers must be authenticated.
    pub(crate) auth: Switch,
    /// `UNSAFE_ENABLE_ADMIN_ENDPOINTS`: `/debug/force_disconnect`.
    pub(crate) admin: Switch,
}

/// State of an optional feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

// === impl DebugConfig ===

impl Default for DebugConfig {
    /// Returns Istio's defaults.
    fn default() -> Self {
        Self { http: Switch::On, auth: Switch::On, admin: Switch::Off }
    }
}

impl DebugConfig {
    /// Reads the environment. Adds a fault for each invalid variable.
    pub(super) fn read(faults: &mut Vec<String>) -> Self {
        let defaults = Self::default();
        let mut switch = |name: &str, default: Switch| match environment(&[name]) {
            None => default,
            Some(text) => Switch::parse(&text).unwrap_or_else(|| {
                faults.push(format!("{name}: {text:?} is neither true nor false"));
                default
            }),
        };
        Self {
            http: switch("ENABLE_DEBUG_ON_HTTP", defaults.http),
            auth: switch("ENABLE_DEBUG_ENDPOINT_AUTH", defaults.auth),
            admin: switch("UNSAFE_ENABLE_ADMIN_ENDPOINTS", defaults.admin),
        }
    }
}

// === impl Switch ===

impl Switch {
    /// Parses a boolean as Go's `strconv.ParseBool`.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Self::On),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Self::Off),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_parsed_as_by_go() {
        for (text, expected) in [
            ("true", Some(Switch::On)),
            ("T", Some(Switch::On)),
            ("0", Some(Switch::Off)),
            ("False", Some(Switch::Off)),
            ("yes", None),
            ("tRUE", None),
            (" true", None),
        ] {
            assert_eq!(Switch::parse(text), expected, "{text:?}");
        }
    }
}
