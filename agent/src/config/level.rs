//! Log levels: Envoy's as `warning,misc:error`, ours as Istio's `default:info,xds:debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Envoy's log levels, checked, in Envoy's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvoyLevels {
    /// `-l`.
    pub(crate) level: String,
    /// `--component-log-level`, each `component:level`.
    pub(crate) components: Vec<String>,
}

/// Error: invalid log levels; holds the invalid part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is none of {expected}")]
pub(crate) struct InvalidLevel {
    part: String,
    expected: &'static str,
}

/// A level of the agent's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// No messages.
    None,
    /// Errors. Istio's `fatal` reads as this: we have no errors worse than others.
    Error,
    /// And warnings.
    Warn,
    /// And decisions.
    Info,
    /// And what led to them.
    Debug,
}

/// Levels of the agent's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevels {
    /// Level of scopes without one of their own.
    pub(crate) default: Level,
    /// By scope. Istio's scopes are not ours; an unknown one is of no effect, as in Istio.
    pub(crate) scopes: BTreeMap<String, Level>,
}

/// Log format of the agent and Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object per line.
    Json,
}

const ENVOY: &str = "trace, debug, info, warning, error, critical, off, or component:level";
const OWN: &str = "debug, info, warn, error, fatal, none, or scope:level";

// === impl EnvoyLevels ===

impl EnvoyLevels {
    /// Reads `--proxyLogLevel` and, if that names no component, the deprecated `--proxyComponentLogLevel`.
    pub(crate) fn parse(levels: &str, components: &str) -> Result<Self, InvalidLevel> {
        let mut level = None;
        let mut named = Vec::new();
        for part in levels.split(',').filter(|part| !part.is_empty()) {
            match part.split_once(':') {
                None if is_envoy_level(part) => level = Some(part.to_owned()),
                Some((component, level)) if is_component(component) && is_envoy_level(level) => {
                    named.push(part.to_owned());
                }
                _ => return Err(InvalidLevel { part: part.to_owned(), expected: ENVOY }),
            }
        }
        if named.is_empty() {
            for part in components.split(',').filter(|part| !part.is_empty()) {
                match part.split_once(':') {
                    Some((component, level)) if is_component(component) && is_envoy_level(level) => {
                        named.push(part.to_owned());
                    }
                    _ => return Err(InvalidLevel { part: part.to_owned(), expected: "component:level" }),
                }
            }
        }
        Ok(Self { level: level.unwrap_or_else(|| "warning".into()), components: named })
    }
}

fn is_envoy_level(text: &str) -> bool {
    matches!(text, "trace" | "debug" | "info" | "warning" | "warn" | "error" | "critical" | "off")
}

fn is_component(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

// === impl LogLevels ===

impl Default for LogLevels {
    fn default() -> Self {
        Self { default: Level::Info, scopes: BTreeMap::new() }
    }
}

impl FromStr for LogLevels {
    type Err = InvalidLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        let mut levels = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let fail = || InvalidLevel { part: part.to_owned(), expected: OWN };
            match part.split_once(':') {
                None | Some(("default" | "all", _)) => {
                    let level = part.split_once(':').map_or(part, |(_, level)| level);
                    levels.default = Level::parse(level).ok_or_else(fail)?;
                }
                Some(("", _)) => return Err(fail()),
                Some((scope, level)) => {
                    levels.scopes.insert(scope.to_owned(), Level::parse(level).ok_or_else(fail)?);
                }
            }
        }
        Ok(levels)
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "default:{}", self.default.as_str())?;
        self.scopes.iter().try_for_each(|(scope, level)| write!(f, ",{scope}:{}", level.as_str()))
    }
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "none" => Self::None,
            "fatal" | "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_levels_are_split_by_component() {
        for (levels, components, level, named) in [
            ("warning", "", "warning", &[][..]),
            ("", "", "warning", &[]),
            ("info,misc:error,upstream:debug", "", "info", &["misc:error", "upstream:debug"]),
            ("misc:error", "", "warning", &["misc:error"]),
            ("info", "misc:error", "info", &["misc:error"]),
            ("info,http:debug", "misc:error", "info", &["http:debug"]),
        ] {
            let read = EnvoyLevels::parse(levels, components).unwrap();
            assert_eq!(
                (read.level.as_str(), read.components),
                (level, named.iter().map(ToString::to_string).collect())
            );
        }
    }

    #[test]
    fn what_envoy_would_refuse_is_refused_before_it_starts() {
        for (levels, components) in
            [("loud", ""), ("a:b:c", ""), ("misc:loud", ""), (":info", ""), ("info", "misc")]
        {
            assert!(EnvoyLevels::parse(levels, components).is_err(), "{levels} {components}");
        }
    }

    #[test]
    fn our_levels_are_istios() {
        let read: LogLevels = "default:warn,xds:debug,grpc:none".parse().unwrap();
        assert_eq!(read.default, Level::Warn);
        assert_eq!(read.scopes, BTreeMap::from([("grpc".into(), Level::None), ("xds".into(), Level::Debug)]));
        assert_eq!(read.to_string(), "default:warn,grpc:none,xds:debug");
        assert_eq!("debug".parse::<LogLevels>().unwrap().default, Level::Debug);
        assert_eq!("".parse::<LogLevels>().unwrap(), LogLevels::default());
        for text in ["loud", "default:loud", "xds:", ":info", "xds:debug:x"] {
            assert!(text.parse::<LogLevels>().is_err(), "{text}");
        }
    }
}
