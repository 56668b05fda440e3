//! Result types of a cluster's evaluation: its endpoints and the security of connections to them.

use std::fmt::{self, Display, Formatter};

/// Destination of a cluster's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// No cluster with this name.
    Missing,
    /// A static cluster without endpoints: `BlackHoleCluster`.
    BlackHole,
    /// The original destination of the connection.
    OriginalDestination(Security),
    /// Endpoints by priority; may be empty.
    Endpoints(Vec<Endpoint>),
    /// The client's host, resolved by a filter with the DNS cache of this name.
    ByName(String),
    /// The client's host, without a filter that resolves it.
    Unresolved,
    /// A kind of endpoint discovery that cannot be evaluated; contains its name.
    Unknown(String),
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `10.1.0.1:8080`, `api.example.com:443`, `unix:///path`
    pub address: String,
    /// 0 is used first.
    pub priority: u32,
    /// `region/zone/subzone`; empty: none.
    pub locality: String,
    /// Weight in its locality.
    pub weight: u32,
    /// Weight of its locality in the priority; `None`: by the number of endpoints.
    pub locality_weight: Option<u32>,
    /// Health.
    pub health: Fitness,
    /// Security of connections.
    pub security: Security,
}

/// Health of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Used.
    Healthy,
    /// Used if too few healthy endpoints are left.
    Degraded,
    /// Not used.
    Unhealthy,
}

/// Security of connections to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Plaintext.
    Plaintext,
    /// TLS.
    Tls {
        /// SNI; empty: none.
        sni: String,
        /// Client certificates, by path or SDS name; empty: none.
        certificates: Vec<String>,
    },
    /// Another transport socket, by name.
    Other(String),
}

// === impl Upstream ===

impl Upstream {
    /// Returns `true` if there is a reachable endpoint.
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

    /// Returns the endpoints; empty if they are not listed.
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
            Self::Unresolved => f.write_str("leads to the requested host, which is not resolved"),
            Self::Unknown(kind) => write!(f, "finds its endpoints by {kind}"),
        }
    }
}

// === impl Endpoint ===

impl Display for Endpoint {
    /// Formats `10.1.0.1:80`, then values that differ from the defaults: `p1 w3 r1/z1 unhealthy tls:sni`.
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
    /// Formats `plaintext`, `tls:sni`, `mtls:sni`, or the name of another transport socket.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("plaintext"),
            Self::Tls { sni, certificates } if certificates.is_empty() => write!(f, "tls:{sni}"),
            Self::Tls { sni, .. } => write!(f, "mtls:{sni}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}
