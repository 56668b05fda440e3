//! Result of a simulated call: all steps with their decisions, and the verdict. Types only.
//!
//! A trace prints as one line, which tests compare: `<listener> [<virtual host>] <verdict>`, where a verdict is a cluster
//! (`80% one + 20% two` for split traffic, `one (missing)` for an unknown cluster, `one (unresolved)` if no
//! filter resolves the host of a dynamic forward proxy), a status, or `301 <location>`.

use std::fmt::{self, Display, Formatter};

use pilot_proto::envoy::config::route::v3::Route;

use super::call::Request;
use super::upstream_types::Upstream;

/// Result of a simulated call.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Listener that serves the connection.
    pub listener: Option<String>,
    /// Selected filter chain.
    pub chain: Option<String>,
    /// Selected virtual host.
    pub virtual_host: Option<String>,
    /// Matching route.
    pub route: Option<Route>,
    /// Settings of the route or of the TCP proxy besides the destination: `timeout 2s`, `retry 3 on 5xx`,
    /// `mirror 50% <cluster>`, `hash header x-user`, ...
    pub policy: Vec<String>,
    /// Result.
    pub verdict: Verdict,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Stage of the decision.
    pub stage: Stage,
    /// Name of the resource; empty if it has none.
    pub name: String,
    /// Decision.
    pub what: String,
    /// Source objects of the resource, `<kind>/<namespace>/<name>`, as far as known.
    pub origins: Vec<String>,
}

/// Stages of the evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A listener.
    Listener,
    /// A chain of filters of a listener.
    FilterChain,
    /// A network filter.
    Filter,
    /// A virtual host.
    VirtualHost,
    /// A route of a virtual host.
    Route,
    /// An HTTP filter.
    HttpFilter,
    /// A cluster.
    Cluster,
}

/// Result of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// No listener at the destination.
    Refused,
    /// The connection was closed.
    Closed(Closed),
    /// The call is forwarded to one of these clusters.
    Forwarded(Vec<Share>),
    /// The proxy redirects the client.
    Redirected {
        /// `301`
        status: u16,
        /// Value of `Location`.
        location: String,
    },
    /// The proxy responds directly.
    Answered {
        /// The HTTP status.
        status: u16,
        /// Reason.
        because: Answer,
    },
    /// The call reaches a feature that cannot be evaluated; contains its name.
    Unknown(String),
}

/// Reasons for a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No filter chain matches.
    NoFilterChain,
    /// The chain has no terminal filter.
    NoFilter,
    /// The connection manager accepts HTTP/2 only.
    NotHttp2,
    /// The chain requires TLS, the client uses plaintext.
    NotTls,
    /// The chain requires a client certificate or SNI that the client does not send.
    Handshake,
}

/// Reasons for a direct response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 400: the bytes are not the HTTP version of the connection manager.
    NotHttp,
    /// 400: Envoy rejects the request before routing.
    Unacceptable,
    /// 426: HTTP/1.0 is disabled.
    TooOld,
    /// 404: no virtual host or no route.
    NoRoute,
    /// A direct response of the route.
    Direct,
    /// An injected abort.
    Fault,
    /// A response to a CORS preflight.
    Preflight,
}

/// A cluster and its share of the traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Name of the cluster.
    pub cluster: String,
    /// Weight, relative to the sum of all shares.
    pub weight: u32,
    /// The upstream request; `None` for TCP.
    pub request: Option<Request>,
    /// Endpoints of the cluster.
    pub upstream: Upstream,
    /// Settings of the cluster: `balances by least request`, `at most 7 connections`, `speaks HTTP/2`, ...
    pub settings: Vec<String>,
}

// === impl Trace ===

impl Trace {
    /// Returns `true` if any share reaches an endpoint.
    pub fn reaches(&self) -> bool {
        self.shares().iter().any(|share| share.upstream.is_there())
    }

    /// Returns the clusters that the call is forwarded to.
    pub fn shares(&self) -> &[Share] {
        match &self.verdict {
            Verdict::Forwarded(shares) => shares,
            _ => &[],
        }
    }

    /// Returns the upstream request of the first cluster.
    pub fn request(&self) -> Option<&Request> {
        self.shares().first()?.request.as_ref()
    }

    /// Returns the source objects of all steps without duplicates, in order.
    pub fn origins(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for origin in self.steps.iter().flat_map(|step| &step.origins) {
            if !found.contains(&origin.as_str()) {
                found.push(origin);
            }
        }
        found
    }

    /// Returns the decisions of a stage, `<name> <decision>` each.
    pub fn said(&self, stage: Stage) -> Vec<String> {
        let steps = self.steps.iter().filter(|step| step.stage == stage);
        steps.map(|step| format!("{} {}", step.name, step.what).trim().to_owned()).collect()
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(listener) = &self.listener {
            write!(f, "{listener} ")?;
        }
        if let Some(host) = &self.virtual_host {
            write!(f, "[{host}] ")?;
        }
        self.verdict.fmt(f)
    }
}

// === impl Verdict ===

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Closed(Closed::NoFilterChain | Closed::NoFilter | Closed::NotHttp2) => {
                f.write_str("closed")
            }
            Self::Closed(Closed::NotTls) => f.write_str("closed (not TLS)"),
            Self::Closed(Closed::Handshake) => f.write_str("closed (handshake)"),
            Self::Forwarded(shares) => {
                let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
                for (index, share) in shares.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" + ")?;
                    }
                    if shares.len() > 1 {
                        write!(f, "{}% ", percent(share.weight, total))?;
                    }
                    f.write_str(&share.cluster)?;
                    match share.upstream {
                        Upstream::Missing => f.write_str(" (missing)")?,
                        Upstream::Unresolved => f.write_str(" (unresolved)")?,
                        _ => {}
                    }
                }
                Ok(())
            }
            Self::Redirected { status, location } => write!(f, "{status} {location}"),
            Self::Answered { status, because } => match because {
                Answer::Fault => write!(f, "{status} (fault)"),
                Answer::Preflight => write!(f, "{status} (preflight)"),
                _ => write!(f, "{status}"),
            },
            Self::Unknown(what) => write!(f, "? {what}"),
        }
    }
}

/// Formats a share in percent with up to two decimal places.
fn percent(weight: u32, total: u64) -> String {
    let hundredths = u64::from(weight) * 10_000 / total.max(1);
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

// === impl Stage ===

impl Stage {
    /// Returns the name for output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::FilterChain => "filter chain",
            Self::Filter => "filter",
            Self::VirtualHost => "virtual host",
            Self::Route => "route",
            Self::HttpFilter => "HTTP filter",
            Self::Cluster => "cluster",
        }
    }
}
