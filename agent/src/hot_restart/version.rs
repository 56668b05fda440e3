//! Which Envoys understand each other, and which of them we understand.

use std::{fmt, str::FromStr};

/// What `envoy --hot-restart-version` and `/hot_restart_version` say. Two Envoys can hand over to each
/// other if, and only if, it is the same for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of the messages.
    protocol: u32,
    /// Size of the shared memory segment, in bytes; it follows from the platform's `pthread_mutex_t`.
    layout: u32,
}

/// What an Envoy says of its version is not one. One built without hot restart says `disabled`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hot-restart version, which is like 11.104")]
pub struct UnreadableVersion(String);

// === impl Version ===

impl Version {
    /// The one that everything in this module was tried with: Envoy 1.40 on x86-64.
    pub const KNOWN: Self = Self { protocol: 11, layout: 104 };

    /// Whether the agent may speak with this Envoy, and write to its memory. Any other version may differ
    /// in ways nobody has looked at.
    pub fn is_known(self) -> bool {
        self == Self::KNOWN
    }
}

impl FromStr for Version {
    type Err = UnreadableVersion;

    fn from_str(text: &str) -> Result<Self, UnreadableVersion> {
        let unreadable = || UnreadableVersion(text.chars().take(64).collect());
        let (protocol, layout) = text.trim_end().split_once('.').ok_or_else(unreadable)?;
        let number = |digits: &str| {
            // The standard library takes a sign as well.
            let digits = Some(digits).filter(|digits| !digits.starts_with('+'));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(unreadable)
        };
        Ok(Self { protocol: number(protocol)?, layout: number(layout)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.protocol, self.layout)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn only_the_version_that_was_tried_is_known() {
        let check = |text: &str, known: Option<bool>| {
            let version = text.parse::<Version>().ok();
            assert_eq!(version.map(Version::is_known), known, "{text:?}");
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
