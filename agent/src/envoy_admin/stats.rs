//! Reads Envoy's statistics, `name: value`, a line each; of these, which configuration has arrived.
//!
//! Only counters and gauges that Envoy keeps live are read: `server.state` and `server.*_connections`
//! change with a flush every five seconds.

pub(super) const CONFIG_UPDATES: &str = concat!(
    "/stats?usedonly&filter=%5E(cluster_manager%5C.cds%5C.update_(success%7Crejected)",
    "%7Clistener_manager%5C.(lds%5C.update_(success%7Crejected)%7Cworkers_started))$"
);

/// Configuration that Envoy has received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigUpdates {
    /// Clusters.
    pub(crate) clusters: Updates,
    /// Listeners.
    pub(crate) listeners: Updates,
    /// Number of starts of the workers, which accept connections.
    pub(crate) workers_started: u64,
}

/// Updates of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Updates {
    /// Number of accepted updates.
    pub(crate) accepted: u64,
    /// Number of rejected updates.
    pub(crate) rejected: u64,
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

pub(super) fn lines(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
