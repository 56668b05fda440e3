//! Whose eyes to look with: the proxies beside the workloads of a mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use pilot_core::model::{
    ConfigKind, ConfigSpec, EndpointAddress, Health, Labels, Locality, Proxy, TlsMode, Workload,
    WorkloadKind, selects,
};
use pilot_core::push::PushContext;
use pilot_core::simulate::proxy_of;
use pilot_proto::node::NodeType;

use crate::config::args::SimulateArgs;

/// The address of a workload that no file declares: of a range that is for benchmarks, and so nobody's (RFC 2544).
const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// More names than this help nobody.
const NAMED: usize = 10;

/// The proxy that `--from` means.
pub(super) fn caller(push: &PushContext, args: &SimulateArgs) -> anyhow::Result<Proxy> {
    let workload = match find(push, &args.from) {
        Some(workload) => workload,
        None if args.labels.is_some() || args.ip.is_some() => Arc::new(made_up(args)?),
        None => bail!(
            "--from {}: no file declares such a Pod or WorkloadEntry{}; --labels and --ip make one up",
            args.from,
            known(push)
        ),
    };
    let node_type = if args.router {
        NodeType::Router
    } else if args.inbound {
        NodeType::Sidecar
    } else {
        node_type(push, &workload.labels)
    };
    proxy_of(&workload, node_type, &push.domain_suffix)
        .with_context(|| format!("--from {}: the workload has no IP address", args.from))
}

/// The proxies of every workload that either mesh has, or of those that are named, by `<name>.<namespace>`; each as it is
/// before and after.
pub(super) fn everybody(
    before: &PushContext,
    after: &PushContext,
    only: &[String],
) -> anyhow::Result<BTreeMap<String, [Option<Proxy>; 2]>> {
    let mut found: BTreeMap<String, [Option<Proxy>; 2]> = BTreeMap::new();
    for (index, push) in [before, after].into_iter().enumerate() {
        for workload in push.workloads.values() {
            let proxy = proxy_of(workload, node_type(push, &workload.labels), &push.domain_suffix);
            if let Some(place) = found.entry(name_of(workload)).or_default().get_mut(index) {
                *place = proxy;
            }
        }
    }
    let wanted: BTreeSet<&String> = only.iter().collect();
    if let Some(stranger) = wanted.iter().find(|name| !found.contains_key(**name)) {
        bail!("--proxy {stranger}: neither folder declares such a Pod or WorkloadEntry");
    }
    if !wanted.is_empty() {
        found.retain(|name, _| wanted.contains(name));
    }
    if found.is_empty() {
        bail!("neither folder declares a Pod or WorkloadEntry: there is nobody to tell anything");
    }
    Ok(found)
}

fn find(push: &PushContext, name: &str) -> Option<Arc<Workload>> {
    push.workloads.values().find(|workload| name_of(workload) == name).cloned()
}

fn name_of(workload: &Workload) -> String {
    format!("{}.{}", workload.name, workload.namespace)
}

/// A gateway is what a `Gateway` selects; its own labels do not say so.
fn node_type(push: &PushContext, labels: &Labels) -> NodeType {
    let selected = push.configs_of(ConfigKind::Gateway).any(|object| match &object.spec {
        ConfigSpec::Gateway(gateway) => !gateway.selector.is_empty() && selects(&gateway.selector, labels),
        _ => false,
    });
    if selected { NodeType::Router } else { NodeType::Sidecar }
}

fn made_up(args: &SimulateArgs) -> anyhow::Result<Workload> {
    let (name, namespace) = args
        .from
        .rsplit_once('.')
        .with_context(|| format!("--from {}: is not <pod>.<namespace>", args.from))?;
    let mut labels = BTreeMap::new();
    for pair in args.labels.iter().flat_map(|list| list.split(',')).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("--labels {pair}: is not key=value"))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(Workload {
        kind: WorkloadKind::Pod,
        namespace: namespace.into(),
        name: name.into(),
        addresses: vec![EndpointAddress::Ip(args.ip.unwrap_or(NOBODYS))],
        labels: Arc::new(labels),
        ports: BTreeMap::new(),
        service_account: "".into(),
        network: "".into(),
        locality: Locality::default(),
        weight: 1,
        health: Health::Healthy,
        tls_mode: TlsMode::Disabled,
        node: "".into(),
    })
}

/// `; there are a.default, b.default`
fn known(push: &PushContext) -> String {
    let names: BTreeSet<String> = push.workloads.values().map(|workload| name_of(workload)).collect();
    let first: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    match names.len() {
        0 => "; there is none at all".to_owned(),
        all if all > NAMED => format!("; there are {} and {} more", first.join(", "), all - NAMED),
        _ => format!("; there are {}", first.join(", ")),
    }
}
