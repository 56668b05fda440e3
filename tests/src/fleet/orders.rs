//! Orders to a fleet and its answers: one line of JSON each, in order, on standard input and output.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pilot_proto::ResourceType;
use serde::{Deserialize, Serialize};

/// Variant of the xDS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// A type of resources, in Envoy's order of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Clusters: all of them.
    Cds,
    /// Endpoint assignments of the clusters.
    Eds,
    /// Listeners: all of them.
    Lds,
    /// Route configurations named by the listeners.
    Rds,
}

/// Configuration of a fleet; the program's only argument, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// Address of the server.
    pub to: SocketAddr,
    /// Number of clients, each with a connection of its own.
    pub streams: u32,
    /// Variant of the protocol.
    pub codec: Codec,
    /// Number of the first client; concurrent fleets use different ranges.
    #[serde(default)]
    pub first: u32,
    /// Number of namespaces, `ns-0` and on, over which the clients are spread.
    #[serde(default = "one")]
    pub scopes: u32,
    /// Requested types. Endpoints follow clusters, routes follow listeners.
    #[serde(default = "clusters_and_endpoints")]
    pub kinds: Vec<Kind>,
    /// Every n-th client keeps the versions of its resources; 0: no client does, and names that are added later are not requested.
    #[serde(default)]
    pub keep: u32,
    /// `SETTINGS_MAX_FRAME_SIZE` in bytes: 16,384, which is Envoy's, to 16,777,215.
    #[serde(default = "smallest_frame")]
    pub max_frame: u32,
    /// PEM file of the trusted authority, or `None` for plaintext.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Template of the node id, with `{n}`, `{ns}` and `{ip}`.
    #[serde(default)]
    pub node_id: Option<String>,
    /// Delay before a client reconnects, in milliseconds.
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

/// A range of clients within the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRange {
    /// Index of the first client.
    pub from: u32,
    /// Number of clients.
    pub count: u32,
}

/// State that a client keeps for its next stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeState {
    /// None: the client requests everything.
    Blank,
    /// Versions of its resources, sent as `initial_resource_versions`; only delta, and only clients that keep versions.
    Versions,
}

/// Condition for a client to count as done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// A response of every type, and as many endpoint assignments and routes as requested.
    Configured,
    /// At least so many resources of each of these types since the mark.
    Resources(BTreeMap<Kind, u64>),
}

/// An order to a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Connects clients, and reconnects them after errors.
    Connect {
        /// The clients.
        #[serde(default = "all_clients")]
        which: ClientRange,
        /// State from an earlier stream.
        memory: ResumeState,
    },
    /// Closes connections.
    Disconnect {
        /// The clients.
        #[serde(default = "all_clients")]
        which: ClientRange,
    },
    /// Starts counting towards this goal.
    Mark {
        /// The goal.
        goal: Goal,
    },
    /// Waits until these clients have reached the goal, or the time limit. Answered by [`GoalTimes`].
    Await {
        /// The clients.
        #[serde(default = "all_clients")]
        which: ClientRange,
        /// Time limit in milliseconds.
        within_ms: u64,
    },
    /// Stops reading.
    Stall {
        /// The clients.
        #[serde(default = "all_clients")]
        which: ClientRange,
    },
    /// Resumes reading.
    Resume {
        /// The clients.
        #[serde(default = "all_clients")]
        which: ClientRange,
    },
    /// Rejects every response with this resource from now on; `None`: accepts every response.
    Refuse {
        /// Name of the resource.
        name: Option<String>,
    },
    /// Requests [`Totals`] since the last mark.
    Totals,
    /// Requests the resources held by one client, which must keep versions. Answered by [`HeldResources`].
    Holdings {
        /// Index of the client.
        client: u32,
    },
}

/// Returns the range of all clients.
pub(super) const fn all_clients() -> ClientRange {
    ClientRange { from: 0, count: u32::MAX }
}

/// Times at which clients reached the goal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalTimes {
    /// Times in microseconds since 1970, sorted.
    pub at: Vec<u64>,
    /// Number of clients that have not reached the goal.
    pub missing: u32,
}

/// Counters since the last mark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Clients with an open stream.
    pub connected: u32,
    /// Streams that ended without an order, or could not be opened.
    pub lost: u64,
    /// Reason for the last lost stream.
    pub last_loss: Option<String>,
    /// GOAWAY frames.
    pub going_away: u64,
    /// Bytes of the responses by type, without the framing of gRPC and HTTP/2.
    pub bytes: BTreeMap<Kind, u64>,
    /// Responses by type.
    pub responses: BTreeMap<Kind, u64>,
    /// Resources by type.
    pub resources: BTreeMap<Kind, u64>,
    /// Rejected responses.
    pub refused: u64,
    /// Largest number of bytes received by one client.
    pub most_bytes: u64,
}

/// Resources held by one client, by type and name: version (or a hash of the bytes in `SotW`) and time of arrival.
pub type HeldResources = BTreeMap<Kind, BTreeMap<String, (String, u64)>>;

// === impl Kind ===

impl Kind {
    /// All types in order.
    pub const ALL: [Self; 4] = [Self::Cds, Self::Eds, Self::Lds, Self::Rds];

    /// Returns the resource type.
    pub const fn resource_type(self) -> ResourceType {
        match self {
            Self::Cds => ResourceType::Cluster,
            Self::Eds => ResourceType::Endpoint,
            Self::Lds => ResourceType::Listener,
            Self::Rds => ResourceType::Route,
        }
    }

    /// Returns true if all resources of the type are requested, not some by name.
    pub(super) const fn is_wildcard(self) -> bool {
        matches!(self, Self::Cds | Self::Lds)
    }
}

// === impl Codec ===

impl Codec {
    /// Returns the name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sotw => "sotw",
            Self::Delta => "delta",
        }
    }
}

// === impl FleetConfig ===

impl FleetConfig {
    /// Creates a plaintext fleet in one namespace that requests clusters and endpoints and keeps no versions.
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
    /// All clients of the fleet.
    pub const ALL: Self = all_clients();

    /// Returns the range of indices in a fleet of this size.
    pub(super) fn indices(self, fleet: usize) -> std::ops::Range<usize> {
        let from = (self.from as usize).min(fleet);
        from..from.saturating_add(self.count as usize).min(fleet)
    }
}

// === impl Goal ===

impl Goal {
    /// Returns the goal of at least so many resources of one type.
    pub fn of(kind: Kind, resources: u64) -> Self {
        Self::Resources(BTreeMap::from([(kind, resources)]))
    }
}

// === impl GoalTimes ===

impl GoalTimes {
    /// Returns the time after `since` at which this part of the clients had reached the goal: 0.5, 0.99, 1.0 for the last one. `None`
    /// if too few have.
    pub fn after(&self, since: u64, part: f64) -> Option<Duration> {
        let all = self.at.len() + self.missing as usize;
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 clients")]
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of all of them")]
        let place = ((all as f64 * part).ceil() as usize).checked_sub(1)?;
        Some(Duration::from_micros(self.at.get(place)?.saturating_sub(since)))
    }

    /// Merges two results.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.at.extend(other.at);
        self.at.sort_unstable();
        self.missing += other.missing;
        self
    }
}

/// Returns the current time in microseconds since 1970, which is comparable between processes and logs.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleet_config_has_defaults_and_no_unknown_fields() {
        let text = r#"{"to":"127.0.0.1:15010","streams":10,"codec":"delta"}"#;
        let setup: FleetConfig = serde_json::from_str(text).unwrap();
        assert_eq!((setup.scopes, setup.max_frame, setup.kinds), (1, 16_384, vec![Kind::Cds, Kind::Eds]));
        assert!(serde_json::from_str::<FleetConfig>(&text.replace("streams", "stream")).is_err());
    }

    #[test]
    fn orders_are_short_lines_of_json() {
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
    fn clients_that_missed_the_goal_count_as_the_last() {
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
