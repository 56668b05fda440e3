//! Patches of clusters.

use pilot_proto::envoy::config::cluster::v3::Cluster;

use super::outcome::{Outcomes, Verdict};
use super::set::ClusterPatches;
use super::value::Merge;
use super::{Context, Patch, within};
use crate::api::envoy_filter::{ClusterMatch, PatchOperation};
use crate::model::Hostname;

/// Applies patches to a cluster; returns `None` if one removes it. `hosts` are the services of an inbound cluster, whose name
/// does not contain them.
pub fn cluster(
    patches: &ClusterPatches,
    (context, hosts): (Context, &[Hostname]),
    mut cluster: Cluster,
    outcomes: &mut Outcomes,
) -> Option<Cluster> {
    for patch in within(patches.iter(), context) {
        let concerned = patch.cluster.as_ref().is_none_or(|wanted| fits(wanted, &cluster.name, hosts));
        if !concerned {
            continue;
        }
        if patch.operation == PatchOperation::Remove {
            outcomes.note(patch, Verdict::Applied);
            return None;
        }
        outcomes.note(patch, merge(patch, &mut cluster));
    }
    Some(cluster)
}

/// Returns the clusters that patches add in a context. Other patches do not apply to them.
pub fn added_clusters(patches: &ClusterPatches, context: Context, outcomes: &mut Outcomes) -> Vec<Cluster> {
    let adding = patches.iter().filter(|patch| patch.adds_in(context));
    adding
        .inspect(|patch| outcomes.note(patch, Verdict::Applied))
        .filter_map(|patch| patch.brings())
        .cloned()
        .collect()
}

/// Merges a patch into a cluster. A transport socket is merged into the cluster's socket of the same name, or replaces any other.
///
/// If a patch has a transport socket, Istio ignores its other fields; here they are merged too.
fn merge(patch: &Patch, cluster: &mut Cluster) -> Verdict {
    let socket = patch.brings::<Cluster>().and_then(|value| value.transport_socket.as_ref());
    patch.merge_with(cluster, |merge: &Merge, cluster: &mut Cluster| {
        let Some(socket) = socket else { return Ok(()) };
        if cluster.transport_socket_matches.is_empty() {
            return match &mut cluster.transport_socket {
                Some(own) if own.name == socket.name => merge.configure(own),
                other => {
                    *other = Some(socket.clone());
                    Ok(())
                }
            };
        }
        // A second transport socket beside these would be ambiguous for Envoy.
        let mut own =
            cluster.transport_socket_matches.iter_mut().filter_map(|other| other.transport_socket.as_mut());
        own.find(|own| own.name == socket.name).map_or(Ok(()), |own| merge.configure(own))
    })
}

fn fits(wanted: &ClusterMatch, name: &str, hosts: &[Hostname]) -> bool {
    if !wanted.name.is_empty() {
        return wanted.name == name;
    }
    let parts = Parts::of(name);
    let any_host = || match (parts.direction, hosts) {
        ("inbound", [_, ..]) => hosts.iter().any(|host| host.as_str() == wanted.service),
        _ => parts.host == wanted.service,
    };
    (wanted.subset.is_empty() || wanted.subset == parts.subset)
        && (wanted.service.is_empty() || any_host())
        && (wanted.port_number == 0 || wanted.port_number == parts.port)
}

/// Parts of the name of a cluster; empty for other names, such as `BlackHoleCluster`.
#[derive(Default)]
struct Parts<'a> {
    direction: &'a str,
    port: u32,
    subset: &'a str,
    host: &'a str,
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// Parses `outbound|80|v1|host`, or `outbound_.80_.v1_.host` of gateways between networks.
    fn of(name: &'a str) -> Self {
        let separator = ["outbound_.", "inbound_."].iter().any(|start| name.starts_with(start));
        let mut parts = name.split(if separator { "_." } else { "|" });
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(direction), Some(port), Some(subset), Some(host), None) => {
                Self { direction, port: port.parse().unwrap_or(0), subset, host }
            }
            _ => Self::default(),
        }
    }
}

/// Returns the port in the name of a cluster; 0 if it has none.
pub(super) fn port_of(name: &str) -> u32 {
    Parts::of(name).port
}
