//! Hot-restart versions: compatibility of two Envoys, and support by the agent.

use std::{fmt, str::FromStr};

/// Output of `envoy --hot-restart-version` and `/hot_restart_version`. Two Envoys can hand over to each other only if it is
/// the same for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HotRestartVersion {
    /// Version of the messages.
    protocol: u32,
    /// Size of the shared memory segment in bytes; depends on the platform's `pthread_mutex_t`.
    layout: u32,
}

/// A text that is no version. An Envoy built without hot restart prints `disabled`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hot-restart version such as 11.104")]
pub(crate) struct InvalidVersion(String);

// === impl HotRestartVersion ===

impl HotRestartVersion {
    /// The version that this module has been tested with: Envoy 1.40 on x86-64.
    pub(crate) const SUPPORTED: Self = Self { protocol: 11, layout: 104 };

    /// Returns `true` if the agent may send requests to this Envoy and write to its segment. Other versions are
    /// untested.
    pub(crate) fn is_supported(self) -> bool {
        self == Self::SUPPORTED
    }
}

impl FromStr for HotRestartVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let unreadable = || InvalidVersion(text.chars().take(64).collect());
        let (protocol, layout) = text.trim_end().split_once('.').ok_or_else(unreadable)?;
        let number = |digits: &str| {
            // `parse` accepts a sign.
            let digits = Some(digits).filter(|digits| !digits.starts_with('+'));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(unreadable)
        };
        Ok(Self { protocol: number(protocol)?, layout: number(layout)? })
    }
}

impl fmt::Display for HotRestartVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.protocol, self.layout)
    }
}

#[cfg(test)]
mod tests {
    use super::HotRestartVersion;

    #[test]
    fn only_the_tested_version_is_supported() {
        let check = |text: &str, known: Option<bool>| {
            let version = text.parse::<HotRestartVersion>().ok();
            assert_eq!(version.map(HotRestartVersion::is_supported), known, "{text:?}");
            if let Some(version) = version {
                assert_eq!(version.to_string(), text.trim_end());
            }
        };
        check("11.104", Some(true));
        check("11.104\n", Some(true));
        // The mutexes of a 64-bit ARM are larger.
        check("11.120", Some(false));
        check("12.104", Some(false));
        check("10.200.16384.127.options=capacity=16384", None);
        check("disabled", None);
        check("11", None);
        check("", None);
        check(".", None);
        check("+11.104", None);
        check("11.4294967296", None);
    }
}
