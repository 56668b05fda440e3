//! What a fleet is told and what it answers: one line of JSON each, in order, on standard input and output.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pilot_proto::ResourceType;
use serde::{Deserialize, Serialize};

/// The variant of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// A type of resources, in the order in which Envoy asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Clusters: all of them.
    Cds,
    /// Endpoint assignments: those of the clusters.
    Eds,
    /// Listeners: all of them.
    Lds,
    /// Routes: those that listeners name.
    Rds,
}

/// What a fleet is made of; the program's only argument, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// The server.
    pub to: SocketAddr,
    /// How many clients, each with a connection of its own.
    pub streams: u32,
    /// ClientRange variant they speak.
    pub codec: Codec,
    /// Number of the first client: fleets beside each other have different ones.
    #[serde(default)]
    pub first: u32,
    /// Over how many namespaces, `ns-0` and on, they are spread.
    #[serde(default = "one")]
    pub scopes: u32,
    /// What they ask for. Endpoints follow clusters, routes follow listeners.
    #[serde(default = "clusters_and_endpoints")]
    pub kinds: Vec<Kind>,
    /// Every n-th client keeps what it holds; 0: none does, and names that come later go unnoticed.
    #[serde(default)]
    pub keep: u32,
    /// `SETTINGS_MAX_FRAME_SIZE` that they offer, in bytes: 16,384, which is Envoy's, to 16,777,215.
    #[serde(default = "smallest_frame")]
    pub max_frame: u32,
    /// PEM of the one authority that they trust; without it they speak plaintext.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Node id, with `{n}`, `{ns}` and `{ip}` replaced.
    #[serde(default)]
    pub node_id: Option<String>,
    /// How long a client whose stream has ended waits before it comes again.
    #[serde(default = "retry")]
    pub retry_ms: u64,
}

const fn one() -> u32 {
    1
}
fn clusters_and_endpoints() -> Vec<Kind> {
    vec![Kind::Cds, Kind::Eds]
}
const fn smallest_frame() -> u32 {
    16_384
}
const fn retry() -> u64 {
    200
}

/// ClientRange clients an order is for: so many from this one on, counted within the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRange {
    /// The first.
    pub from: u32,
    /// How many.
    pub count: u32,
}

/// What a client takes with it to its next stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeState {
    /// Nothing: it asks for everything.
    Blank,
    /// The versions of what it holds, as `initial_resource_versions`; delta, and for clients that keep.
    Versions,
}

/// When a client is where it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It has had an answer of every type, and as many endpoint assignments and routes as it asked for.
    Configured,
    /// It was sent at least so many resources of each of these types since.
    Resources(BTreeMap<Kind, u64>),
}

/// What a fleet can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Connect, and keep on trying.
    Connect {
        /// Who.
        #[serde(default = "all_clients")]
        which: ClientRange,
        /// With what.
        memory: ResumeState,
    },
    /// Cut connections.
    Disconnect {
        /// Who.
        #[serde(default = "all_clients")]
        which: ClientRange,
    },
    /// Count from now on, towards this.
    Mark {
        /// What is waited for.
        goal: Goal,
    },
    /// Wait until these have reached the goal, or the time is up. Answered by [`GoalTimes`].
    Await {
        /// Who.
        #[serde(default = "all_clients")]
        which: ClientRange,
        /// At most so long.
        within_ms: u64,
    },
    /// Stop reading.
    Stall {
        /// Who.
        #[serde(default = "all_clients")]
        which: ClientRange,
    },
    /// Read again.
    Resume {
        /// Who.
        #[serde(default = "all_clients")]
        which: ClientRange,
    },
    /// From now on refuse every response that has this resource; `None`: accept everything.
    Refuse {
        /// Its name.
        name: Option<String>,
    },
    /// Answered by [`Totals`] since the last mark.
    Totals,
    /// What one client holds, which must be one that keeps. Answered by [`HeldResources`].
    Holdings {
        /// ClientRange.
        client: u32,
    },
}

/// Every client.
pub(super) const fn all_clients() -> ClientRange {
    ClientRange { from: 0, count: u32::MAX }
}

/// Who has reached the goal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalTimes {
    /// When, in microseconds since 1970, sorted.
    pub at: Vec<u64>,
    /// How many have not.
    pub missing: u32,
}

/// What came and went since the last mark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Clients with a stream.
    pub connected: u32,
    /// Streams that ended without our asking, or never began.
    pub lost: u64,
    /// Why the last of them did.
    pub last_loss: Option<String>,
    /// GOAWAYs.
    pub going_away: u64,
    /// Bytes of the responses of each type, without gRPC's and HTTP/2's framing.
    pub bytes: BTreeMap<Kind, u64>,
    /// Responses of each type.
    pub responses: BTreeMap<Kind, u64>,
    /// Resources of each type.
    pub resources: BTreeMap<Kind, u64>,
    /// Responses that were refused.
    pub refused: u64,
    /// Bytes that the client of the most was sent.
    pub most_bytes: u64,
}

/// What one client holds of each type: version, or a hash of its bytes in `SotW`, and when that came, by name.
pub type HeldResources = BTreeMap<Kind, BTreeMap<String, (String, u64)>>;

// === impl Kind ===

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Cds, Self::Eds, Self::Lds, Self::Rds];

    /// The type on the wire.
    pub const fn resource_type(self) -> ResourceType {
        match self {
            Self::Cds => ResourceType::Cluster,
            Self::Eds => ResourceType::Endpoint,
            Self::Lds => ResourceType::Listener,
            Self::Rds => ResourceType::Route,
        }
    }

    /// Whether all of them are asked for, not some by name.
    pub(super) const fn is_wildcard(self) -> bool {
        matches!(self, Self::Cds | Self::Lds)
    }
}

// === impl Codec ===

impl Codec {
    /// As the command line spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sotw => "sotw",
            Self::Delta => "delta",
        }
    }
}

// === impl FleetConfig ===

impl FleetConfig {
    /// A plaintext fleet in one namespace that asks for clusters and endpoints and keeps nothing.
    pub fn new(to: SocketAddr, streams: u32, codec: Codec) -> Self {
        Self {
            to,
            streams,
            codec,
            first: 0,
            scopes: one(),
            kinds: clusters_and_endpoints(),
            keep: 0,
            max_frame: smallest_frame(),
            ca: None,
            node_id: None,
            retry_ms: retry(),
        }
    }
}

// === impl ClientRange ===

impl ClientRange {
    /// Everybody in the fleet.
    pub const ALL: Self = all_clients();

    /// As a range of indices.
    pub(super) fn indices(self, fleet: usize) -> std::ops::Range<usize> {
        let from = (self.from as usize).min(fleet);
        from..from.saturating_add(self.count as usize).min(fleet)
    }
}

// === impl Goal ===

impl Goal {
    /// So many resources of one type.
    pub fn of(kind: Kind, resources: u64) -> Self {
        Self::Resources(BTreeMap::from([(kind, resources)]))
    }
}

// === impl GoalTimes ===

impl GoalTimes {
    /// How long after `since` this part of them had reached it: 0.5, 0.99, 1.0 for the last. `None` when too many have not.
    pub fn after(&self, since: u64, part: f64) -> Option<Duration> {
        let all = self.at.len() + self.missing as usize;
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 clients")]
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of all of them")]
        let place = ((all as f64 * part).ceil() as usize).checked_sub(1)?;
        Some(Duration::from_micros(self.at.get(place)?.saturating_sub(since)))
    }

    /// Both as one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.at.extend(other.at);
        self.at.sort_unstable();
        self.missing += other.missing;
        self
    }
}

/// Now, in microseconds since 1970: what processes beside each other and their logs agree on.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_needs_little() {
        let text = r#"{"to":"127.0.0.1:15010","streams":10,"codec":"delta"}"#;
        let setup: FleetConfig = serde_json::from_str(text).unwrap();
        assert_eq!((setup.scopes, setup.max_frame, setup.kinds), (1, 16_384, vec![Kind::Cds, Kind::Eds]));
        assert!(serde_json::from_str::<FleetConfig>(&text.replace("streams", "stream")).is_err());
    }

    #[test]
    fn orders_are_lines_that_people_can_type() {
        let check = |text: &str, expected| {
            assert_eq!(serde_json::from_str::<Order>(text).unwrap(), expected, "{text}");
        };
        let which = ClientRange::ALL;
        check(
            r#"{"order":"connect","memory":"blank"}"#,
            Order::Connect { which, memory: ResumeState::Blank },
        );
        let goal = Goal::of(Kind::Eds, 1);
        check(r#"{"order":"mark","goal":{"resources":{"eds":1}}}"#, Order::Mark { goal });
        check(r#"{"order":"mark","goal":"configured"}"#, Order::Mark { goal: Goal::Configured });
        let which = ClientRange { from: 3, count: 2 };
        check(r#"{"order":"stall","which":{"from":3,"count":2}}"#, Order::Stall { which });
    }

    #[test]
    fn those_who_are_missing_are_the_last() {
        let reached = GoalTimes { at: vec![10, 20, 30], missing: 1 };
        let check = |part, expected: Option<u64>| {
            assert_eq!(reached.after(10, part), expected.map(Duration::from_micros), "{part}");
        };
        check(0.5, Some(10));
        check(0.75, Some(20));
        check(1.0, None);
        assert_eq!(reached.clone().and(reached).at, [10, 10, 20, 20, 30, 30]);
    }
}
