//! Who may use the debug pages: Istio's variables, checked.

use super::environment;

/// What of the debug interface is there, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DebugConfig {
    /// `ENABLE_DEBUG_ON_HTTP`: whether there are pages on the HTTP ports at all. The types on xDS stay.
    pub(crate) http: Switch,
    /// `ENABLE_DEBUG_ENDPOINT_AUTH`: whether callers must have proved who they are.
    pub(crate) auth: Switch,
    /// `UNSAFE_ENABLE_ADMIN_ENDPOINTS`: whether `/debug/force_disconnect` is there.
    pub(crate) admin: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// There.
    On,
    /// Not there.
    Off,
}

// === impl DebugConfig ===

impl Default for DebugConfig {
    /// Istio's defaults.
    fn default() -> Self {
        Self { http: Switch::On, auth: Switch::On, admin: Switch::Off }
    }
}

impl DebugConfig {
    /// Reads the environment; what cannot be read is a fault that names its variable.
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
    /// What Go's `strconv.ParseBool` takes.
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
    fn switches_are_spelt_as_go_spells_them() {
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
