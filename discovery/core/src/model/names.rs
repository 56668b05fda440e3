//! Types of names, with parsing and formatting.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name! {
    /// Fully qualified host name, `reviews.default.svc.cluster.local`; may start with `*`.
    Hostname
}

name! {
    /// Kubernetes namespace.
    Namespace
}

impl Hostname {
    /// Returns `true` for a wildcard: `*.example.com` or `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Returns `true` if every name that `other` matches is matched by this one.
    pub fn includes(&self, other: &Self) -> bool {
        let Some(suffix) = self.0.strip_prefix('*') else { return self == other };
        other.0.strip_prefix('*').unwrap_or(&other.0).ends_with(suffix)
    }

    /// Returns `true` if a name is matched by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.includes(other) || other.includes(self)
    }

    /// Completes a host name of an object in a namespace: `reviews` becomes `reviews.<namespace>.svc.<suffix>`. Names with a dot,
    /// star or colon are complete.
    pub fn completed(name: &str, namespace: &Namespace, domain_suffix: &str) -> Self {
        if name.is_empty() || name.contains(['.', '*', ':']) || namespace.as_str().is_empty() {
            return name.into();
        }
        format!("{name}.{namespace}.svc.{domain_suffix}").into()
    }
}

/// Traffic direction of a cluster, as seen from the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the workload beside the proxy.
    Inbound,
    /// From the workload beside the proxy.
    Outbound,
}

impl Direction {
    /// Returns the spelling in cluster names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Name of an Envoy cluster in Istio's format: `outbound|9080|v1|reviews.default.svc.cluster.local`, `inbound|8080||`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName {
    /// Traffic direction.
    pub direction: Direction,
    /// Service port outbound, target port inbound.
    pub port: u16,
    /// Subset; empty for the whole service.
    pub subset: String,
    /// Host of the service; empty for inbound clusters.
    pub host: String,
}

/// Error: not a cluster name in this format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not <direction>|<port>|<subset>|<host>")]
pub struct NotAClusterName(String);

impl ClusterName {
    /// Returns `outbound|<port>||<host>`.
    pub fn outbound(port: u16, host: &Hostname) -> Self {
        Self { direction: Direction::Outbound, port, subset: String::new(), host: host.to_string() }
    }

    /// Returns `outbound|<port>|<subset>|<host>`; for the whole service if the subset is empty.
    pub fn subset(port: u16, subset: &str, host: &Hostname) -> Self {
        Self { subset: subset.to_owned(), ..Self::outbound(port, host) }
    }

    /// Returns `inbound|<target port>||`.
    pub fn inbound(target_port: u16) -> Self {
        Self { direction: Direction::Inbound, port: target_port, subset: String::new(), host: String::new() }
    }

    /// Returns the SNI of TLS clients of the mesh, which gateways between networks route by:
    /// `outbound_.9080_.v1_.reviews.default.svc.cluster.local`.
    pub fn sni(&self) -> String {
        format!("{}_.{}_.{}_.{}", self.direction.as_str(), self.port, self.subset, self.host)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}|{}|{}", self.direction.as_str(), self.port, self.subset, self.host)
    }
}

impl FromStr for ClusterName {
    type Err = NotAClusterName;

    fn from_str(text: &str) -> Result<Self, NotAClusterName> {
        let fail = || NotAClusterName(text.to_owned());
        // Accepts the SNI format too.
        let separator = if text.contains('|') { "|" } else { "_." };
        let parts: Vec<&str> = text.splitn(4, separator).collect();
        let [direction, port, subset, host] = parts.as_slice() else { return Err(fail()) };
        let direction = match *direction {
            "inbound" => Direction::Inbound,
            "outbound" => Direction::Outbound,
            _ => return Err(fail()),
        };
        if host.contains('|') {
            return Err(fail());
        }
        let port = port.parse().map_err(|_| fail())?;
        Ok(Self { direction, port, subset: (*subset).to_owned(), host: (*host).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_survive_the_round_trip() {
        for text in [
            "outbound|9080|v1|reviews.default.svc.cluster.local",
            "outbound|80||*.example.com",
            "inbound|8080||",
        ] {
            assert_eq!(text.parse::<ClusterName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_cluster_is_asked_for_by_a_name_without_bars() {
        let whole = ClusterName::outbound(80, &"a.com".into());
        let part = ClusterName::subset(80, "v1", &"a.com".into());
        assert_eq!(
            (whole.sni().as_str(), part.sni().as_str()),
            ("outbound_.80_._.a.com", "outbound_.80_.v1_.a.com")
        );
        assert_eq!(part.to_string(), "outbound|80|v1|a.com");
    }

    #[test]
    fn sni_names_a_cluster_too() {
        let sni = "outbound_.9080_.v1_.reviews.default.svc.cluster.local";
        let name: ClusterName = sni.parse().unwrap();
        assert_eq!(name.to_string(), "outbound|9080|v1|reviews.default.svc.cluster.local");
        assert_eq!(name.sni(), sni);
    }

    #[test]
    fn wildcards_include_what_ends_alike() {
        for (wide, narrow, includes, overlaps) in [
            ("*", "a.com", true, true),
            ("*", "*", true, true),
            ("*.com", "*.a.com", true, true),
            ("*.a.com", "*.com", false, true),
            ("*.a.com", "b.a.com", true, true),
            ("*.a.com", "a.com", false, false),
            ("a.com", "a.com", true, true),
            ("a.com", "*.com", false, true),
            ("a.com", "b.com", false, false),
        ] {
            let (wide, narrow) = (Hostname::from(wide), Hostname::from(narrow));
            assert_eq!(
                (wide.includes(&narrow), wide.overlaps(&narrow)),
                (includes, overlaps),
                "{wide} {narrow}"
            );
        }
    }

    #[test]
    fn a_short_name_is_of_the_namespace_of_its_object() {
        for (name, completed) in [
            ("reviews", "reviews.shop.svc.cluster.local"),
            ("reviews.prod", "reviews.prod"),
            ("*", "*"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(Hostname::completed(name, &"shop".into(), "cluster.local"), Hostname::from(completed));
        }
    }

    #[test]
    fn what_is_not_a_cluster_name_is_refused() {
        for text in [
            "",
            "BlackHoleCluster",
            "outbound|x||h",
            "outbound|70000||h",
            "sideways|80||h",
            "outbound|80|h",
            "outbound_.80_.h",
            "outbound|80||h|",
        ] {
            assert!(text.parse::<ClusterName>().is_err(), "{text}");
        }
    }
}
