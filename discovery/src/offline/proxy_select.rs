//! Selection of the proxies to evaluate: those of the workloads of a mesh.

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

/// Default address of a workload that is not declared, from the range for benchmarks (RFC 2544).
const UNUSED_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// Largest number of workload names in an error.
const MAX_NAMES: usize = 10;

/// Returns the proxy of `--from`.
pub(super) fn caller(push: &PushContext, args: &SimulateArgs) -> anyhow::Result<Proxy> {
    let workload = match find(push, &args.from) {
        Some(workload) => workload,
        None if args.labels.is_some() || args.ip.is_some() => Arc::new(undeclared(args)?),
        None => bail!(
            "--from {}: no file declares such a Pod or WorkloadEntry{}; use --labels or --ip for one that is not declared",
            args.from,
            declared_names(push)
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

/// Returns the proxies of all workloads of both meshes, or of the named ones, by `<name>.<namespace>`; each before and after.
pub(super) fn all(
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
    if let Some(name) = wanted.iter().find(|name| !found.contains_key(**name)) {
        bail!("--proxy {name}: neither directory declares such a Pod or WorkloadEntry");
    }
    if !wanted.is_empty() {
        found.retain(|name, _| wanted.contains(name));
    }
    if found.is_empty() {
        bail!("neither directory declares a Pod or WorkloadEntry");
    }
    Ok(found)
}

fn find(push: &PushContext, name: &str) -> Option<Arc<Workload>> {
    push.workloads.values().find(|workload| name_of(workload) == name).cloned()
}

fn name_of(workload: &Workload) -> String {
    format!("{}.{}", workload.name, workload.namespace)
}

/// Returns `Router` for a workload that a `Gateway` selects.
fn node_type(push: &PushContext, labels: &Labels) -> NodeType {
    let selected = push.configs_of(ConfigKind::Gateway).any(|object| match &object.spec {
        ConfigSpec::Gateway(gateway) => !gateway.selector.is_empty() && selects(&gateway.selector, labels),
        _ => false,
    });
    if selected { NodeType::Router } else { NodeType::Sidecar }
}

fn undeclared(args: &SimulateArgs) -> anyhow::Result<Workload> {
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
        addresses: vec![EndpointAddress::Ip(args.ip.unwrap_or(UNUSED_ADDRESS))],
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

/// Returns the beginning of the list of workloads: `; declared: a.default, b.default`.
fn declared_names(push: &PushContext) -> String {
    let names: BTreeSet<String> = push.workloads.values().map(|workload| name_of(workload)).collect();
    let first: Vec<&str> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
    match names.len() {
        0 => "; none is declared".to_owned(),
        all if all > MAX_NAMES => format!("; declared: {} and {} more", first.join(", "), all - MAX_NAMES),
        _ => format!("; declared: {}", first.join(", ")),
    }
}
