//! Translates the configuration to the supervisor's policy.

use crate::{
    bootstrap::argv::parent_shutdown,
    cli::{self, Role},
    config::Config,
    supervisor::{Allowed, DrainPolicy, DrainScope, HandoverPolicy, Minimum, Policy, RestartPolicy},
};

/// Returns the policy of a proxy of this role.
pub(super) fn policy(flags: &cli::ProxyFlags, config: &Config, allowed: Allowed) -> Policy {
    let default = Policy::default();
    let drain = config.drain;
    Policy {
        drain: DrainPolicy {
            head_start: flags.pre_drain_delay.min(drain.deadline),
            minimum: drain.minimum.map_or(Minimum::TrafficBased(drain.evident), Minimum::Fixed),
            deadline: drain.deadline,
            ..default.drain
        },
        withdraw: match flags.role {
            Role::Sidecar => DrainScope::Inbound,
            // A gateway's listeners are all for others.
            Role::Router => DrainScope::All,
        },
        restart: match flags.restart_policy {
            cli::RestartMode::Always => default.restart,
            cli::RestartMode::Never => RestartPolicy::NEVER,
        },
        handover: HandoverPolicy {
            allowed,
            live_within: flags.hot_restart_deadline,
            leave_within: parent_shutdown(config),
            ..default.handover
        },
        kill_grace: drain.kill_grace,
        ..default
    }
}
