//! Counts what Envoy is busy with, from its statistics: in all, and listener by listener.
//!
//! In all, addresses and their spelling stay out of it. Listener by listener they are the only link there is
//! between a listener and its statistics.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{listeners::Listener, stats::lines};
use crate::{lifecycle::ListenerActivity, supervisor::Activity};

/// `usedonly` and the anchors keep Envoy's search short. The admin's own numbers are always among the
/// answer; if they are not, the bootstrap's matcher does not keep these statistics.
pub(super) const PATH: &str =
    "/stats?usedonly&filter=%5E(http%7Clistener)%5C..*%5C.downstream_(cx%7Crq)_(active%7Ctotal)$";

/// Listeners of the bootstrap, by their `stat_prefix`: health checks and scrapes are not counted as traffic.
const OWN: [&str; 5] = ["admin", "agent", "stats", "secure_stats", "secure_merged_stats"];

/// The statistic of the admin's own listener, which has no address in it.
const ADMIN: &str = "admin";

/// Active connections and requests of Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActivityStats {
    /// Activity that a drain waits for; `None` if these statistics are not kept.
    pub(crate) activity: Option<Activity>,
    /// HTTP requests in progress.
    pub(crate) requests: u64,
    /// Connections open, whatever is spoken on them, idle ones included.
    pub(crate) connections: u64,
    /// Connections open, by the listener's name in statistics.
    listeners: BTreeMap<String, u64>,
    /// Connections open and requests in progress, by `stat_prefix`.
    http: BTreeMap<String, (u64, u64)>,
}

/// The totals of one kind of connection or request.
#[derive(Default)]
struct Totals {
    active: u64,
    total: u64,
}

/// Raw TCP has no number of its own: it is what the listeners count and no HTTP connection manager does.
pub(super) fn count(text: &str) -> ActivityStats {
    let (mut accepted, mut http, mut connections, mut requests) =
        (Totals::default(), Totals::default(), Totals::default(), Totals::default());
    let mut stats = ActivityStats::default();
    let mut kept = 0_u32;
    for (name, value) in lines(text) {
        let Some((owner, what)) = name.rsplit_once(".downstream_") else { continue };
        let (cx, rq) = (what.strip_prefix("cx_"), what.strip_prefix("rq_"));
        if let Some(listener) = owner.strip_prefix("listener.") {
            // Each worker counts once more what its listener has counted.
            if !listener.contains(".worker_") && !listener.ends_with(".main_thread") {
                accepted.add(cx, value);
                if cx == Some("active") && listener != ADMIN {
                    stats.listeners.insert(listener.to_owned(), value);
                }
            }
        } else if let Some(prefix) = owner.strip_prefix("http.") {
            http.add(cx, value);
            let prefix = prefix.trim_end_matches(';');
            if OWN.contains(&prefix) {
                kept += u32::from(prefix == ADMIN);
            } else {
                connections.add(cx, value);
                requests.add(rq, value);
                let (connected, requested) = stats.http.entry(prefix.to_owned()).or_default();
                match (cx, rq) {
                    (Some("active"), _) => *connected = value,
                    (_, Some("active")) => *requested = value,
                    _ => {}
                }
            }
        }
    }
    let raw = accepted.active.saturating_sub(http.active);
    stats.requests = requests.active;
    stats.connections = connections.active.saturating_add(raw);
    // Four of the admin's: connections and requests, active and total.
    stats.activity = (kept == 4 && accepted.total > 0).then(|| Activity {
        active: requests.active.saturating_add(raw),
        begun: requests
            .total
            .saturating_add(connections.total)
            .saturating_add(accepted.total.saturating_sub(http.total)),
    });
    stats
}

// === impl ActivityStats ===

impl ActivityStats {
    /// Returns the busy ones among `listeners`, the busiest first; `own` are the ports of the agent's own listeners, which are
    /// not counted. HTTP behind a shared port, as 15006 is, has an entry of its own under its `stat_prefix`: its connections are
    /// counted at the shared port too.
    pub(crate) fn by_listener(&self, listeners: &[Listener], own: &[u16]) -> Vec<ListenerActivity> {
        let mut rows: BTreeMap<&str, ListenerActivity> = BTreeMap::new();
        for (statistic, &connections) in &self.listeners {
            if !is_own(statistic, own) {
                let name = name_of(statistic, listeners).to_owned();
                rows.insert(statistic, ListenerActivity { name, requests: 0, connections });
            }
        }
        for (prefix, &(connections, requests)) in &self.http {
            // Istio's prefixes are the listener's address behind its direction.
            let address = prefix.strip_prefix("inbound_").or(prefix.strip_prefix("outbound_"));
            match address.and_then(|address| rows.get_mut(address)) {
                Some(row) => row.requests = row.requests.saturating_add(requests),
                None => {
                    let row = ListenerActivity { name: prefix.clone(), requests, connections };
                    rows.insert(prefix, row);
                }
            }
        }
        // A listener on several addresses is one listener.
        let mut named: BTreeMap<String, ListenerActivity> = BTreeMap::new();
        for row in rows.into_values().filter(|row| row.requests > 0 || row.connections > 0) {
            let sum = named.entry(row.name.clone()).or_default();
            sum.name = row.name;
            sum.requests = sum.requests.saturating_add(row.requests);
            sum.connections = sum.connections.saturating_add(row.connections);
        }
        let mut busy: Vec<_> = named.into_values().collect();
        busy.sort_by_key(|row| Reverse((row.requests, row.connections)));
        busy
    }
}

fn is_own(statistic: &str, own: &[u16]) -> bool {
    let port = statistic.rsplit_once('_').and_then(|(_, port)| port.parse().ok());
    port.is_some_and(|port| own.contains(&port))
}

/// Returns the name of the statistic for a listener with a `stat_prefix`, or one that is bound to port 0.
fn name_of<'a>(statistic: &'a str, listeners: &'a [Listener]) -> &'a str {
    let bound = |listener: &&Listener| {
        listener.addresses.iter().any(|address| address.stat_name().as_deref() == Some(statistic))
    };
    listeners.iter().find(bound).map_or(statistic, |listener| &listener.name)
}

// === impl Totals ===

impl Totals {
    fn add(&mut self, what: Option<&str>, value: u64) {
        match what {
            Some("active") => self.active = self.active.saturating_add(value),
            Some("total") => self.total = self.total.saturating_add(value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy_admin::listeners;

    fn activity(text: &str) -> Option<Activity> {
        count(text).activity
    }

    /// Statistics of the connection of the request itself.
    const ASKING: &str = "http.admin.downstream_cx_active: 1\nhttp.admin.downstream_cx_total: 9\n\
        http.admin.downstream_rq_active: 1\nhttp.admin.downstream_rq_total: 9\n\
        listener.admin.downstream_cx_active: 1\nlistener.admin.downstream_cx_total: 9\n\
        listener.admin.main_thread.downstream_cx_active: 1\nlistener.admin.main_thread.downstream_cx_total: 9\n";

    fn check(others: &str, active: u64, begun: u64) {
        assert_eq!(activity(&format!("{ASKING}{others}")), Some(Activity { active, begun }), "{others}");
    }

    #[test]
    fn the_one_who_asks_is_no_traffic() {
        check("", 0, 0);
    }

    #[test]
    fn requests_count_and_idle_connections_do_not() {
        let idle = "listener.127.0.0.1_80.downstream_cx_active: 2\nlistener.127.0.0.1_80.downstream_cx_total: 3\n\
            listener.127.0.0.1_80.worker_0.downstream_cx_active: 2\n\
            http.inbound_0.0.0.0_80;.downstream_cx_active: 2\nhttp.inbound_0.0.0.0_80;.downstream_cx_total: 3\n";
        check(idle, 0, 3);
        let busy = "http.inbound_0.0.0.0_80;.downstream_rq_active: 1\nhttp.inbound_0.0.0.0_80;.downstream_rq_total: 5\n";
        check(&format!("{idle}{busy}"), 1, 8);
    }

    #[test]
    fn a_raw_tcp_connection_is_active_as_long_as_it_is_open_whatever_its_address() {
        check(
            "listener.[__]_5432.downstream_cx_active: 2\nlistener.[__]_5432.downstream_cx_total: 4\n",
            2,
            4,
        );
    }

    #[test]
    fn health_checks_and_scrapes_are_no_traffic() {
        let probes = "http.agent;.downstream_rq_active: 1\nhttp.agent;.downstream_rq_total: 70\n\
            http.agent;.downstream_cx_active: 1\nhttp.agent;.downstream_cx_total: 2\n\
            listener.0.0.0.0_15021.downstream_cx_active: 1\nlistener.0.0.0.0_15021.downstream_cx_total: 2\n\
            http.stats.downstream_rq_total: 4\n";
        check(probes, 0, 0);
    }

    #[test]
    fn statistics_that_are_not_kept_say_nothing() {
        assert_eq!(activity(""), None);
        // Istio's matcher for `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`.
        let connections_only: Vec<_> =
            ASKING.lines().filter(|line| line.contains("downstream_cx_active")).collect();
        assert_eq!(activity(&connections_only.join("\n")), None);
        assert_eq!(activity("nonsense\n: \nhttp.x.downstream_rq_active: many\n"), None);
    }

    const BOUND: &[u8] = br#"{"listener_statuses": [
        {"name": "virtualInbound", "local_address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
         "additional_local_addresses": [{"socket_address": {"address": "::", "port_value": 15006}}]},
        {"name": "web", "local_address": {"socket_address": {"address": "::1", "port_value": 80}}}]}"#;

    #[test]
    fn each_listener_is_told_by_its_name_in_both_address_families() {
        let text = "listener.[__]_15006.downstream_cx_active: 3\nlistener.0.0.0.0_15006.downstream_cx_active: 1\n\
            listener.[__1]_80.downstream_cx_active: 4\nlistener.[__1]_80.worker_1.downstream_cx_active: 4\n\
            listener.0.0.0.0_15021.downstream_cx_active: 9\nlistener.mine.downstream_cx_active: 1\n\
            listener.idle.downstream_cx_active: 0\n\
            http.outbound_[__1]_80;.downstream_cx_active: 4\nhttp.outbound_[__1]_80;.downstream_rq_active: 2\n\
            http.inbound_0.0.0.0_8080;.downstream_cx_active: 3\n\
            http.inbound_0.0.0.0_8080;.downstream_rq_active: 3\n\
            http.agent;.downstream_cx_active: 9\nhttp.agent;.downstream_rq_active: 9\n";
        let stats = count(&format!("{ASKING}{text}"));
        assert_eq!((stats.requests, stats.connections), (5, 9));
        let rows = stats.by_listener(&listeners::read(BOUND).unwrap(), &[15_021]);
        let rows: Vec<_> =
            rows.iter().map(|row| (row.name.as_str(), row.requests, row.connections)).collect();
        let expected =
            [("inbound_0.0.0.0_8080", 3, 3), ("web", 2, 4), ("virtualInbound", 0, 4), ("mine", 0, 1)];
        assert_eq!(rows, expected);
    }
}
