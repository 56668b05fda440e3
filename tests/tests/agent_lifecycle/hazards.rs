//! Everything that is known to go wrong in a hot restart, provoked. Native has more of it than mediated, where the agent is
//! between the two Envoys; what users see is to be the same.
//!
//! ```text
//! rising     the new one fails, hangs, or is shot before it is LIVE
//! leaving    one of the two is shot after it
//! slow_predecessor   the old one is stopped at any moment
//! ```

mod leaving;
mod rising;
mod slow_predecessor;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use pilot_tests::mesh::END;
use pilot_tests::process::ProcessInfo;
use pilot_tests::solo::{Front, Generation, Solo};
use pilot_tests::wait::eventually;
use serde_json::{Map, Value, json};

use super::hot_restart::state;

/// Control plane that accepts connections and never responds.
pub(super) struct Silent {
    listener: TcpListener,
}

/// For how long an Envoy waits for configuration that does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is never LIVE.
    ForEver,
    /// It is LIVE after a second, with what it has.
    OneSecond,
}

// === impl Silent ===

impl Silent {
    pub(super) fn start() -> Result<Self> {
        // The kernel accepts connections up to the backlog.
        Ok(Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))? })
    }

    fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("where nobody answers")
    }

    /// Returns a front's bootstrap at this revision that also requests these types from the control plane.
    pub(super) fn asked_for(
        &self,
        wanted: &[&str],
        wait: Wait,
        (front, revision, admin): (&Front, u32, SocketAddr),
    ) -> Result<Value> {
        let mut bootstrap = front.bootstrap(revision, admin);
        let seconds = match wait {
            Wait::ForEver => "0s",
            Wait::OneSecond => "1s",
        };
        let at = self.address()?;
        let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": seconds});
        let service = json!({"envoy_grpc": {"cluster_name": "silent"}});
        let ads = json!({"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]});
        let mut dynamic = Map::from_iter([("ads_config".to_owned(), ads)]);
        dynamic.extend(wanted.iter().map(|&resource| (resource.to_owned(), source.clone())));
        let fields = bootstrap.as_object_mut().context("a bootstrap")?;
        fields.insert("dynamic_resources".into(), dynamic.into());
        let endpoint = json!({"address": {"socket_address": {"address": at.ip(), "port_value": at.port()}}});
        let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
        let clusters = clusters.context("clusters")?;
        clusters.push(json!({
            "name": "silent",
            "load_assignment": {"cluster_name": "silent", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
        }));
        Ok(bootstrap)
    }

    /// Makes the agent want an Envoy that never is LIVE.
    pub(super) fn stall(&self, solo: &Solo, revision: u32) -> Result<()> {
        let wanted = ["cds_config", "lds_config"];
        solo.rewrite(&self.asked_for(&wanted, Wait::ForEver, (&solo.front, revision, solo.admin))?)
    }
}

/// Sends a signal to one of the agent's Envoys.
pub(super) fn send(envoy: &Generation, signal: Signal) -> Result<()> {
    kill(envoy.pid, signal).with_context(|| format!("send {signal} to {envoy:?}"))
}

/// Waits until this Envoy is dead and reaped.
pub(super) async fn gone(envoy: &Generation) -> Result<()> {
    eventually(END, "an Envoy is gone", async || match ProcessInfo::read(envoy.pid) {
        None => Ok(()),
        Some(seen) => anyhow::bail!("{seen:?}"),
    })
    .await
}

/// Waits for the exit of this Envoy in the agent's report.
pub(super) async fn exit_of(solo: &Solo, envoy: &Generation) -> Result<Value> {
    let pid = envoy.pid.as_raw();
    eventually(END, "the agent knows of its end", async || {
        let exits = state(solo, "/exits").await?;
        let exit = exits.as_array().into_iter().flatten().find(|exit| exit["pid"] == pid).cloned();
        exit.with_context(|| format!("{pid} is not among {exits}"))
    })
    .await
}
