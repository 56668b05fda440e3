//! Allow-list of Envoy's admin endpoint. Pure; all other paths are refused.
//!
//! Reading is for tools: `istioctl proxy-config`, dashboards, Prometheus, people. Of the paths that change state, levels,
//! counters and logs are harmless. Envoy's lifecycle is excluded: a drain without the agent leaves the pod in service, cannot be
//! undone, and mostly refuses connections; the status port has `/drain` and `/quitquitquit` for that. Memory dumps contain keys;
//! profilers write files and block the main thread; `/tap` shows traffic; runtime changes make a proxy differ from its
//! configuration.

use std::fmt;

use http::{Method, StatusCode};

/// Read-only paths of Envoy 1.40.
const READ: [&str; 17] = [
    "/",
    "/certs",
    "/clusters",
    "/config_dump",
    "/contention",
    "/help",
    "/hot_restart_version",
    "/init_dump",
    "/listeners",
    "/memory",
    "/memory/tcmalloc",
    "/ready",
    "/runtime",
    "/server_info",
    "/stats",
    "/stats/prometheus",
    "/stats/recentlookups",
];

/// `/logging` without a query only lists, and yet is a POST.
const CHANGE: [&str; 6] = [
    "/logging",
    "/reopen_logs",
    "/reset_counters",
    "/stats/recentlookups/clear",
    "/stats/recentlookups/disable",
    "/stats/recentlookups/enable",
];

const LIFE: [&str; 4] = ["/drain_listeners", "/healthcheck/fail", "/healthcheck/ok", "/quitquitquit"];

/// Reason to refuse a request; displayed to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminRefusal {
    /// The path requires another method; holds it.
    Method(&'static str),
    /// The status port has an equivalent.
    Life,
    /// The path is not on the allow-list.
    Unlisted,
}

/// Compares whole paths. Envoy normalizes paths, so one with extra dots or slashes must not match an allowed one.
pub(super) fn judge(method: &Method, path: &str) -> Result<(), AdminRefusal> {
    let reads = [Method::GET, Method::HEAD].contains(method);
    match path {
        path if READ.contains(&path) && reads => Ok(()),
        path if READ.contains(&path) => Err(AdminRefusal::Method("GET")),
        path if CHANGE.contains(&path) && method == Method::POST => Ok(()),
        path if CHANGE.contains(&path) => Err(AdminRefusal::Method("POST")),
        path if LIFE.contains(&path) => Err(AdminRefusal::Life),
        _ => Err(AdminRefusal::Unlisted),
    }
}

// === impl AdminRefusal ===

impl AdminRefusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Life | Self::Unlisted => StatusCode::FORBIDDEN,
        }
    }
}

impl fmt::Display for AdminRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => write!(f, "only {method}"),
            Self::Life => f.write_str(
                "not passed on to Envoy, whose life is the agent's: POST /drain or /quitquitquit to the status \
                 port (15020) instead; pilot-agent's --rawAdmin puts Envoy's own admin here",
            ),
            Self::Unlisted => {
                f.write_str("not passed on to Envoy; pilot-agent's --rawAdmin puts Envoy's own admin here")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, path: &str, expected: Result<(), AdminRefusal>) {
        assert_eq!(judge(method, path), expected, "{method} {path}");
    }

    #[test]
    fn what_tools_read_is_passed_on() {
        for path in READ {
            check(&Method::GET, path, Ok(()));
            check(&Method::HEAD, path, Ok(()));
            check(&Method::POST, path, Err(AdminRefusal::Method("GET")));
        }
    }

    #[test]
    fn levels_counters_and_logs_may_be_changed_by_post() {
        for path in CHANGE {
            check(&Method::POST, path, Ok(()));
            check(&Method::GET, path, Err(AdminRefusal::Method("POST")));
        }
    }

    #[test]
    fn envoys_life_is_the_agents() {
        for path in LIFE {
            check(&Method::POST, path, Err(AdminRefusal::Life));
            check(&Method::GET, path, Err(AdminRefusal::Life));
        }
    }

    #[test]
    fn nothing_else_is_passed_on_however_it_is_spelt() {
        for path in [
            "/allocprofiler",
            "/cpuprofiler",
            "/heap_dump",
            "/heapprofiler",
            "/peak_heap_dump",
            "/runtime_modify",
            "/tap",
            "/stats/../quitquitquit",
            "//quitquitquit",
            "/quitquitquit/",
            "/quit%71uitquit",
            "/STATS",
            "/stats/",
            "/stats;x",
            "",
        ] {
            check(&Method::POST, path, Err(AdminRefusal::Unlisted));
            check(&Method::GET, path, Err(AdminRefusal::Unlisted));
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_instead() {
        for refusal in [AdminRefusal::Life, AdminRefusal::Unlisted] {
            assert!(refusal.to_string().contains("--rawAdmin"), "{refusal}");
            assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
        }
    }
}
