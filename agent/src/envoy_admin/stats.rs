//! Reads Envoy's statistics: `name: value`, a line each.
//!
//! Only counters and gauges that Envoy keeps live are read: `server.state` and `server.*_connections`
//! change with a flush every five seconds.

use crate::supervisor::Activity;

/// `usedonly` and the anchors keep Envoy's search short. The admin's own numbers are always among the
/// answer; if they are not, the bootstrap's matcher does not keep these statistics.
pub(super) const ACTIVITY: &str =
    "/stats?usedonly&filter=%5E(http%7Clistener)%5C..*%5C.downstream_(cx%7Crq)_(active%7Ctotal)$";

pub(super) const CONFIG_UPDATES: &str = concat!(
    "/stats?usedonly&filter=%5E(cluster_manager%5C.cds%5C.update_(success%7Crejected)",
    "%7Clistener_manager%5C.(lds%5C.update_(success%7Crejected)%7Cworkers_started))$"
);

/// The bootstrap's own listeners, by their `stat_prefix`: health checks and scrapes are nobody's traffic.
const OWN: [&str; 5] = ["admin", "agent", "stats", "secure_stats", "secure_merged_stats"];

/// Which configuration Envoy has received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigUpdates {
    /// Clusters.
    pub clusters: Updates,
    /// Listeners.
    pub listeners: Updates,
    /// Whether the workers accept connections.
    pub workers_started: u64,
}

/// Updates of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Updates {
    /// How many were taken.
    pub accepted: u64,
    /// How many were not.
    pub rejected: u64,
}

/// The totals of one kind of connection or request.
#[derive(Default)]
struct Count {
    active: u64,
    total: u64,
}

/// Raw TCP has no number of its own: it is what the listeners count and no HTTP connection manager does.
/// Summing both sides over everything keeps addresses, and their spelling, out of it.
pub(super) fn activity(text: &str) -> Option<Activity> {
    let (mut accepted, mut http, mut connections, mut requests) =
        (Count::default(), Count::default(), Count::default(), Count::default());
    let mut kept = 0_u32;
    for (name, value) in lines(text) {
        let Some((owner, what)) = name.rsplit_once(".downstream_") else { continue };
        if let Some(listener) = owner.strip_prefix("listener.") {
            // Each worker counts once more what its listener has counted.
            if !listener.contains(".worker_") && !listener.ends_with(".main_thread") {
                accepted.add(what.strip_prefix("cx_"), value);
            }
        } else if let Some(prefix) = owner.strip_prefix("http.") {
            http.add(what.strip_prefix("cx_"), value);
            if OWN.contains(&prefix.trim_end_matches(';')) {
                kept += u32::from(prefix.starts_with("admin"));
            } else {
                connections.add(what.strip_prefix("cx_"), value);
                requests.add(what.strip_prefix("rq_"), value);
            }
        }
    }
    // Four of the admin's: connections and requests, active and total.
    (kept == 4 && accepted.total > 0).then(|| Activity {
        active: requests.active + accepted.active.saturating_sub(http.active),
        begun: requests.total + connections.total + accepted.total.saturating_sub(http.total),
    })
}

pub(super) fn config_updates(text: &str) -> ConfigUpdates {
    let mut updates = ConfigUpdates::default();
    for (name, value) in lines(text) {
        match name {
            "cluster_manager.cds.update_success" => updates.clusters.accepted = value,
            "cluster_manager.cds.update_rejected" => updates.clusters.rejected = value,
            "listener_manager.lds.update_success" => updates.listeners.accepted = value,
            "listener_manager.lds.update_rejected" => updates.listeners.rejected = value,
            "listener_manager.workers_started" => updates.workers_started = value,
            _ => {}
        }
    }
    updates
}

fn lines(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
}

// === impl Count ===

impl Count {
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

    /// What Envoy always says of the connection that asks.
    const ADMIN: &str = "http.admin.downstream_cx_active: 1\nhttp.admin.downstream_cx_total: 9\n\
        http.admin.downstream_rq_active: 1\nhttp.admin.downstream_rq_total: 9\n\
        listener.admin.downstream_cx_active: 1\nlistener.admin.downstream_cx_total: 9\n\
        listener.admin.main_thread.downstream_cx_active: 1\nlistener.admin.main_thread.downstream_cx_total: 9\n";

    fn check(others: &str, active: u64, begun: u64) {
        assert_eq!(activity(&format!("{ADMIN}{others}")), Some(Activity { active, begun }), "{others}");
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
            ADMIN.lines().filter(|line| line.contains("downstream_cx_active")).collect();
        assert_eq!(activity(&connections_only.join("\n")), None);
        assert_eq!(activity("nonsense\n: \nhttp.x.downstream_rq_active: many\n"), None);
    }

    #[test]
    fn updates_are_read_by_kind() {
        let text = "cluster_manager.cds.update_success: 2\nlistener_manager.lds.update_rejected: 1\n\
            listener_manager.workers_started: 1\nserver.state: 2\n";
        let expected = ConfigUpdates {
            clusters: Updates { accepted: 2, rejected: 0 },
            listeners: Updates { accepted: 0, rejected: 1 },
            workers_started: 1,
        };
        assert_eq!(config_updates(text), expected);
    }
}
