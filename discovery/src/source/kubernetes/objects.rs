//! Kubernetes objects, trimmed to the fields that decide something here.
//!
//! Unknown fields are ignored, as the API server's newer versions add them all the time; a known field of the
//! wrong type is an error. What a value means is decided in `convert`, whether it is allowed in `validate`.
//! <https://kubernetes.io/docs/reference/kubernetes-api/>

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use pilot_core::model::{ConfigObject, Kind, Labels};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, de};

/// The kinds that are read, those that others refer to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectKind {
    /// `v1 Namespace`
    Namespace,
    /// `v1 Node`
    Node,
    /// `v1 Pod`
    Pod,
    /// `v1 Service`
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice,
    /// `v1 Endpoints`
    Endpoints,
    /// `networking.istio.io ServiceEntry`
    ServiceEntry,
    /// `networking.istio.io WorkloadEntry`
    WorkloadEntry,
}

/// Namespace (empty for what has none) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespacedName {
    /// The namespace.
    pub(crate) namespace: Arc<str>,
    /// The name.
    pub(crate) name: Arc<str>,
}

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    /// What it is.
    pub(crate) kind: ObjectKind,
    /// Which one.
    pub(crate) name: NamespacedName,
}

/// One object of the kinds that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A machine.
    Node(Node),
    /// A pod.
    Pod(Pod),
    /// A service.
    Service(Service),
    /// Some endpoints of a service.
    EndpointSlice(EndpointSlice),
    /// All endpoints of a service, the older way.
    Endpoints(Endpoints),
    /// An Istio object; `pilot-core` gives it its meaning.
    Config(ConfigObject),
}

/// `metadata`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// Unique in the namespace.
    pub(crate) name: Arc<str>,
    /// Empty for what has none.
    pub(crate) namespace: Arc<str>,
    /// Labels.
    pub(crate) labels: Labels,
    /// Annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// When it was made.
    pub(crate) creation_timestamp: Timestamp,
    /// Set as soon as its end has begun.
    pub(crate) deletion_timestamp: Option<Timestamp>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    /// Who.
    pub(crate) metadata: Metadata,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    /// Who.
    pub(crate) metadata: Metadata,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    /// Who.
    pub(crate) metadata: Metadata,
    /// What is wanted.
    pub(crate) spec: ServiceSpec,
}

/// `Service.spec`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    /// How it is reached.
    #[serde(rename = "type")]
    pub(crate) kind: ServiceType,
    /// An address, `None` (headless) or nothing yet.
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    /// The same for dual stack.
    #[serde(rename = "clusterIPs")]
    pub(crate) cluster_ips: Vec<String>,
    /// The host that this name stands for.
    pub(crate) external_name: String,
    /// What clients connect to.
    pub(crate) ports: Vec<ServicePort>,
    /// Labels of its pods.
    pub(crate) selector: BTreeMap<String, String>,
    /// Whether clients stay on their node.
    pub(crate) internal_traffic_policy: InternalTrafficPolicy,
    /// Endpoints take traffic before they are ready.
    pub(crate) publish_not_ready_addresses: bool,
}

/// `Service.spec.type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum ServiceType {
    /// Inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// On a port of every node, too.
    NodePort,
    /// Behind a load balancer, too.
    LoadBalancer,
    /// Only another name.
    ExternalName,
}

/// `Service.spec.internalTrafficPolicy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum InternalTrafficPolicy {
    /// Every endpoint.
    #[default]
    Cluster,
    /// Those on the client's node.
    Local,
}

/// `Service.spec.ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServicePort {
    /// Empty when there is one port.
    #[serde(default)]
    pub(crate) name: Arc<str>,
    /// What clients connect to.
    #[serde(deserialize_with = "port_number")]
    pub(crate) port: u16,
    /// What is spoken above it.
    #[serde(default)]
    pub(crate) protocol: Transport,
    /// What is spoken there.
    #[serde(default)]
    pub(crate) app_protocol: Option<String>,
    /// Where it leads; the same number when absent.
    #[serde(default)]
    pub(crate) target_port: Option<IntOrString>,
}

/// `protocol` of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port by its number or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IntOrString {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    /// Who.
    pub(crate) metadata: Metadata,
    /// What is wanted.
    pub(crate) spec: PodSpec,
    /// What is.
    pub(crate) status: PodStatus,
}

/// `Pod.spec`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    /// Whose identity it has.
    pub(crate) service_account_name: String,
    /// Where it runs.
    pub(crate) node_name: Arc<str>,
    /// What runs.
    pub(crate) containers: Vec<Container>,
    /// What runs before; with `restartPolicy: Always` also beside.
    pub(crate) init_containers: Vec<Container>,
}

/// `Pod.spec.containers[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    /// Where it listens, as far as declared.
    pub(crate) ports: Vec<ContainerPort>,
    /// `Always` on an init container makes it a sidecar.
    pub(crate) restart_policy: String,
}

/// `Pod.spec.containers[].ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    /// What `targetPort` may refer to.
    #[serde(default)]
    pub(crate) name: String,
    /// Where it listens.
    #[serde(rename = "containerPort", deserialize_with = "port_number")]
    pub(crate) number: u16,
    /// What is spoken above it.
    #[serde(default)]
    pub(crate) protocol: Transport,
}

/// `Pod.status`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    /// How far it is.
    pub(crate) phase: PodPhase,
    /// Its first address.
    #[serde(rename = "podIP", deserialize_with = "address")]
    pub(crate) pod_ip: Option<IpAddr>,
    /// All its addresses.
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
    /// `Ready` and others.
    pub(crate) conditions: Vec<Condition>,
}

/// `Pod.status.podIPs[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PodIp {
    /// The address.
    pub(crate) ip: IpAddr,
}

/// `Pod.status.phase`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum PodPhase {
    /// Not started.
    Pending,
    /// Started.
    #[default]
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Not known.
    Unknown,
}

/// `status.conditions[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    /// For example `Ready`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
}

/// Some endpoints of the service that the label `kubernetes.io/service-name` names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    /// Who.
    #[serde(default)]
    pub(crate) metadata: Metadata,
    /// What `endpoints[].addresses` are.
    pub(crate) address_type: AddressType,
    /// Where.
    #[serde(default)]
    pub(crate) endpoints: Vec<SliceEndpoint>,
    /// On which ports, every endpoint alike.
    #[serde(default)]
    pub(crate) ports: Vec<SlicePort>,
}

/// `EndpointSlice.addressType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum AddressType {
    /// IPv4 addresses.
    IPv4,
    /// IPv6 addresses.
    IPv6,
    /// Host names; Istio does not read these, nor do we.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// `EndpointSlice.endpoints[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SliceEndpoint {
    /// One or more ways to the same place.
    pub(crate) addresses: Vec<String>,
    /// Whether it takes traffic.
    pub(crate) conditions: EndpointConditions,
    /// What is there.
    pub(crate) target_ref: Option<TargetRef>,
    /// On which machine.
    pub(crate) node_name: Option<Arc<str>>,
}

/// `EndpointSlice.endpoints[].conditions`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    /// Absent: yes.
    pub(crate) ready: Option<bool>,
    /// Absent: as `ready`.
    pub(crate) serving: Option<bool>,
    /// Absent: no.
    pub(crate) terminating: Option<bool>,
}

/// `EndpointSlice.ports[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    /// The service port's name.
    pub(crate) name: Arc<str>,
    /// Absent: all ports, which says nothing to a proxy.
    #[serde(deserialize_with = "maybe_port_number")]
    pub(crate) port: Option<u16>,
}

/// All endpoints of the service of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    /// Who.
    pub(crate) metadata: Metadata,
    /// Every address of a subset serves every port of it.
    pub(crate) subsets: Vec<EndpointSubset>,
}

/// `Endpoints.subsets[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSubset {
    /// Ready ones.
    pub(crate) addresses: Vec<EndpointsAddress>,
    /// Those that are not.
    pub(crate) not_ready_addresses: Vec<EndpointsAddress>,
    /// On which ports.
    pub(crate) ports: Vec<EndpointsPort>,
}

/// `Endpoints.subsets[].addresses[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointsAddress {
    /// The address.
    pub(crate) ip: IpAddr,
    /// What is there.
    #[serde(default)]
    pub(crate) target_ref: Option<TargetRef>,
    /// On which machine.
    #[serde(default)]
    pub(crate) node_name: Option<Arc<str>>,
}

/// `Endpoints.subsets[].ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct EndpointsPort {
    /// The service port's name.
    #[serde(default)]
    pub(crate) name: Arc<str>,
    /// The number there.
    #[serde(deserialize_with = "port_number")]
    pub(crate) port: u16,
}

/// What an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct TargetRef {
    /// Usually `Pod`.
    pub(crate) kind: String,
    /// Empty: the namespace of the endpoints.
    pub(crate) namespace: Arc<str>,
    /// The name.
    pub(crate) name: Arc<str>,
}

/// A moment, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) i64);

// === impl ObjectKind ===

impl ObjectKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 8] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Endpoints,
        Self::ServiceEntry,
        Self::WorkloadEntry,
    ];

    /// As manifests spell it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
        }
    }

    /// Whether objects of this kind live outside namespaces.
    pub(crate) const fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::Namespace | Self::Node)
    }
}

// === impl NamespacedName, ObjectKey ===

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

// === impl Object ===

impl Object {
    /// Who it is.
    pub(crate) fn key(&self) -> ObjectKey {
        let (kind, metadata) = match self {
            Self::Namespace(object) => (ObjectKind::Namespace, &object.metadata),
            Self::Node(object) => (ObjectKind::Node, &object.metadata),
            Self::Pod(object) => (ObjectKind::Pod, &object.metadata),
            Self::Service(object) => (ObjectKind::Service, &object.metadata),
            Self::EndpointSlice(object) => (ObjectKind::EndpointSlice, &object.metadata),
            Self::Endpoints(object) => (ObjectKind::Endpoints, &object.metadata),
            Self::Config(object) => {
                let kind = if object.spec.kind() == Kind::WorkloadEntry {
                    ObjectKind::WorkloadEntry
                } else {
                    ObjectKind::ServiceEntry
                };
                let namespace = object.meta.namespace.as_str().into();
                return ObjectKey {
                    kind,
                    name: NamespacedName { namespace, name: object.meta.name.clone() },
                };
            }
        };
        ObjectKey { kind, name: metadata.id() }
    }
}

// === impl Metadata ===

impl Metadata {
    /// Namespace and name.
    pub(crate) fn id(&self) -> NamespacedName {
        NamespacedName { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// A label, unless it is absent or empty.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

// === impl Pod ===

impl Pod {
    /// Its addresses, the first one first.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.status.pod_ips.iter().map(|entry| entry.ip);
        self.status.pod_ip.into_iter().chain(others.filter(move |ip| Some(*ip) != self.status.pod_ip))
    }
}

// === impl Timestamp ===

impl Timestamp {
    /// From RFC 3339, `2026-08-22T10:00:00Z`; fractions of seconds are cut.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once(['T', 't'])?;
        let zone_at = rest.find(['Z', 'z', '+', '-'])?;
        let (time, zone) = (rest.get(..zone_at)?, rest.get(zone_at..)?);
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
        let offset = match zone.strip_prefix(['+', '-']) {
            None => (zone.len() == 1).then_some(0)?,
            Some(offset) => {
                let [hours, minutes] = numbers(offset, ':', [2, 2])?;
                let seconds = hours * 3600 + minutes * 60;
                if zone.starts_with('-') { -seconds } else { seconds }
            }
        };
        let in_range = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60
            && !fraction.is_empty()
            && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        in_range.then_some(Self(seconds - offset))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no RFC 3339 time")))
    }
}

/// `N` numbers of exactly so many digits.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (slot, length) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *slot = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(found)
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Counts from March, so that the leap day is a year's last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

// === impl IntOrString ===

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrName;

        impl Visitor<'_> for NumberOrName {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or the name of a port")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<IntOrString, E> {
                checked_port(i64::try_from(number).unwrap_or(i64::MAX)).map(IntOrString::Number)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<IntOrString, E> {
                checked_port(number).map(IntOrString::Number)
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<IntOrString, E> {
                if name.is_empty() {
                    return Err(E::invalid_value(Unexpected::Str(name), &self));
                }
                Ok(IntOrString::Name(name.to_owned()))
            }
        }

        deserializer.deserialize_any(NumberOrName)
    }
}

/// `u16` alone would say "expected u16" of 70000 and nothing of 0.
fn checked_port<E: de::Error>(number: i64) -> Result<u16, E> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| E::custom(format!("{number} is no port: 1 to 65535")))
}

fn port_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    checked_port(i64::deserialize(deserializer)?)
}

fn maybe_port_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Option::<i64>::deserialize(deserializer)?.map(checked_port).transpose()
}

/// An address; the API server writes an empty string for none.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| D::Error::custom(format!("{text:?} is no IP address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_writes_them() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2026-08-22T10:11:12Z", Some(1_787_393_472)),
            ("2026-08-22T10:11:12.987Z", Some(1_787_393_472)),
            ("2026-08-22T12:11:12+02:00", Some(1_787_393_472)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2001-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-08-22 10:11:12Z", None),
            ("2026-08-22T10:11:12", None),
            ("2026-08-22T10:11:12.Z", None),
            ("2026-8-22T10:11:12Z", None),
            ("+026-08-22T10:11:12Z", None),
            ("", None),
        ] {
            assert_eq!(Timestamp::parse(text).map(|time| time.0), seconds, "{text}");
        }
    }
}
