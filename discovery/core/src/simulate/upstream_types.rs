//! Result of an evaluated cluster: its endpoints and the security of connections to them.

use std::fmt::{self, Display, Formatter};

/// What stands behind a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// There is no such cluster.
    Missing,
    /// The cluster has no endpoint, and none that will ever come: `BlackHoleCluster`.
    BlackHole,
    /// The connection goes on to where the client wanted to.
    OriginalDestination(Security),
    /// Endpoints, by priority, none where there are none just now.
    Endpoints(Vec<Endpoint>),
    /// The host that the client names, looked up by a filter of the DNS cache with this name.
    ByName(String),
    /// The host that the client names, and nobody looks it up.
    Unresolved,
    /// The cluster finds its endpoints in a way that cannot be imagined here, by its name.
    Unknown(String),
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `10.1.0.1:8080`, `api.example.com:443`, `unix:///path`
    pub address: String,
    /// 0 is asked first.
    pub priority: u32,
    /// `region/zone/subzone`; empty: none.
    pub locality: String,
    /// Its weight in its locality.
    pub weight: u32,
    /// The weight of its locality among those of its priority; `None`: by the number of endpoints.
    pub locality_weight: Option<u32>,
    /// Whether it is asked at all.
    pub health: Fitness,
    /// How connections to it are secured.
    pub security: Security,
}

/// Whether an endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Yes.
    Healthy,
    /// When too few others are left.
    Degraded,
    /// No.
    Unhealthy,
}

/// How connections to an endpoint are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plaintext,
    /// By TLS.
    Tls {
        /// The name asked for; empty: none.
        sni: String,
        /// The client's own certificates, by path or SDS name; empty: it shows none.
        certificates: Vec<String>,
    },
    /// By something else, by its name.
    Other(String),
}

// === impl Upstream ===

impl Upstream {
    /// Whether there is an endpoint to reach.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Missing | Self::BlackHole | Self::Unresolved => false,
            Self::OriginalDestination(_) | Self::ByName(_) | Self::Unknown(_) => true,
            // When all are unhealthy, the panic threshold decides; Istio's default for it is off.
            Self::Endpoints(endpoints) => {
                endpoints.iter().any(|endpoint| endpoint.health != Fitness::Unhealthy)
            }
        }
    }

    /// Its endpoints; none where they are not listed.
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Endpoints(endpoints) => endpoints,
            _ => &[],
        }
    }
}

impl Display for Upstream {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is not there"),
            Self::BlackHole => f.write_str("leads nowhere"),
            Self::OriginalDestination(Security::Plaintext) => {
                f.write_str("leads on to where the client wanted")
            }
            Self::OriginalDestination(security) => {
                write!(f, "leads on to where the client wanted, {security}")
            }
            Self::Endpoints(endpoints) if endpoints.is_empty() => f.write_str("has no endpoints"),
            Self::Endpoints(endpoints) => {
                for (index, endpoint) in endpoints.iter().enumerate() {
                    write!(f, "{}{endpoint}", if index > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::ByName(_) => f.write_str("leads to the host that is asked for"),
            Self::Unresolved => f.write_str("leads to the host that is asked for, which nobody looks up"),
            Self::Unknown(kind) => write!(f, "finds its endpoints by {kind}"),
        }
    }
}

// === impl Endpoint ===

impl Display for Endpoint {
    /// `10.1.0.1:80`, then what is out of the ordinary: `p1 w3 r1/z1 unhealthy tls:sni`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if self.priority > 0 {
            write!(f, " p{}", self.priority)?;
        }
        if self.weight != 1 {
            write!(f, " w{}", self.weight)?;
        }
        if !self.locality.is_empty() {
            write!(f, " {}", self.locality)?;
            if let Some(weight) = self.locality_weight {
                write!(f, "={weight}")?;
            }
        }
        match self.health {
            Fitness::Healthy => {}
            Fitness::Degraded => f.write_str(" degraded")?,
            Fitness::Unhealthy => f.write_str(" unhealthy")?,
        }
        match &self.security {
            Security::Plaintext => Ok(()),
            security => write!(f, " {security}"),
        }
    }
}

impl Display for Security {
    /// `plaintext`, `tls:sni`, `mtls:sni`, or another socket's name.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("plaintext"),
            Self::Tls { sni, certificates } if certificates.is_empty() => write!(f, "tls:{sni}"),
            Self::Tls { sni, .. } => write!(f, "mtls:{sni}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}
