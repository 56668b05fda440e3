//! What became of a call: every step with what decided it, and the end.
//!
//! A trace prints as one line, which tests compare: `<listener> [<virtual host>] <end>`, where an end is a cluster
//! (`80% one + 20% two` where traffic is split, `one (missing)` where there is none of that name, `one (unresolved)` where no
//! filter looks up what it leads to), a status, or `301 <location>`.

use std::fmt::{self, Display, Formatter};

use pilot_proto::envoy::config::route::v3::Route;

use super::call::Request;
use super::upstream_types::Upstream;

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// The listener that took the connection in the end.
    pub listener: Option<String>,
    /// Its filter chain.
    pub chain: Option<String>,
    /// The virtual host that was found.
    pub virtual_host: Option<String>,
    /// The route that matched.
    pub route: Option<Route>,
    /// What the route, or the filter that passes bytes on, asks for besides: `timeout 2s`, `retry 3 on 5xx`,
    /// `mirror 50% <cluster>`, `hash header x-user`, ...
    pub policy: Vec<String>,
    /// Where it ended.
    pub verdict: Verdict,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What kind of thing decided.
    pub stage: Stage,
    /// Its name; empty where it has none.
    pub name: String,
    /// What it decided.
    pub what: String,
    /// The objects of configuration it was made from, `<kind>/<namespace>/<name>`, where that can be told.
    pub origins: Vec<String>,
}

/// What kind of thing decides a step.
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

/// Where a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nobody listens there.
    Refused,
    /// The connection was closed.
    Closed(Closed),
    /// It goes to one of these clusters.
    Forwarded(Vec<Share>),
    /// The proxy sends the client elsewhere.
    Redirected {
        /// `301`
        status: u16,
        /// As it stands in `Location`.
        location: String,
    },
    /// The proxy answers by itself.
    Answered {
        /// The HTTP status.
        status: u16,
        /// Why.
        because: Answer,
    },
    /// It ends in something that cannot be imagined here: what, by its name.
    Unknown(String),
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No filter chain matches.
    NoFilterChain,
    /// The chain has no filter that ends it.
    NoFilter,
    /// Only HTTP/2 is spoken there.
    NotHttp2,
    /// The chain wants TLS and gets plaintext.
    NotTls,
    /// The chain wants a certificate or a name that the client does not show.
    Handshake,
}

/// Why a proxy answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 400: what was said is not the HTTP that is spoken here.
    NotHttp,
    /// 400: the request is one that Envoy turns away before it looks for a route.
    Unacceptable,
    /// 426: HTTP/1.0 is not served.
    TooOld,
    /// 404: no virtual host or no route.
    NoRoute,
    /// A route says so.
    Direct,
    /// A fault was asked for.
    Fault,
    /// A CORS preflight was answered.
    Preflight,
}

/// A cluster, and how much of the traffic goes there.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Its name.
    pub cluster: String,
    /// Parts of the traffic, of the sum of all shares.
    pub weight: u32,
    /// The request as it leaves the proxy; `None` where the proxy sees bytes.
    pub request: Option<Request>,
    /// What stands behind the cluster.
    pub upstream: Upstream,
    /// How the cluster deals with it: `balances by least request`, `at most 7 connections`, `speaks HTTP/2`, ...
    pub settings: Vec<String>,
}

// === impl Trace ===

impl Trace {
    /// Whether some of the traffic reaches an endpoint.
    pub fn reaches(&self) -> bool {
        self.shares().iter().any(|share| share.upstream.is_there())
    }

    /// The clusters it goes to; none where it ends before.
    pub fn shares(&self) -> &[Share] {
        match &self.verdict {
            Verdict::Forwarded(shares) => shares,
            _ => &[],
        }
    }

    /// The request as it leaves the proxy, for the first of the clusters.
    pub fn request(&self) -> Option<&Request> {
        self.shares().first()?.request.as_ref()
    }

    /// The objects that any of the steps was decided by, each once, in order.
    pub fn origins(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for origin in self.steps.iter().flat_map(|step| &step.origins) {
            if !found.contains(&origin.as_str()) {
                found.push(origin);
            }
        }
        found
    }

    /// What was decided at a stage, `<name> <what>` each.
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

/// A share in percent, with as many digits as it takes up to two.
fn percent(weight: u32, total: u64) -> String {
    let hundredths = u64::from(weight) * 10_000 / total.max(1);
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

// === impl Stage ===

impl Stage {
    /// As people read it.
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
