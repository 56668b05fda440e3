//! Evaluation of a connection, from its listener to the terminal network filter.

use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::transport_socket;
use pilot_proto::envoy::config::listener::v3::{FilterChain, Listener, filter};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use pilot_proto::envoy::extensions::filters::network::sni_cluster::v3::SniCluster;
use pilot_proto::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;

use super::call::{Call, Certificate, Payload};
use super::dynamic_forward_proxy;
use super::filter_chain::chain;
use super::http::not_understood;
use super::listener::{ConnectionInfo, SelectedListener};
use super::proxy_config_view::{ProxyConfigView, message, unpack};
use super::tls_summary;
use super::trace::{Closed, Share, Stage, Step, Trace, Verdict};
use super::{route_policy, source_objects};

/// Bytes that the network filters see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// Plaintext, sent as plaintext.
    Plain,
    /// Plaintext, after TLS termination.
    Decrypted,
    /// TLS.
    Encrypted,
}

// === impl ProxyConfigView ===

impl ProxyConfigView {
    /// Evaluates a call.
    pub fn call(&self, call: &Call) -> Trace {
        let mut trace = Trace {
            steps: Vec::new(),
            listener: None,
            chain: None,
            virtual_host: None,
            route: None,
            policy: Vec::new(),
            verdict: Verdict::Refused,
        };
        trace.verdict = self.connection(call, &mut trace);
        trace
    }

    fn connection(&self, call: &Call, trace: &mut Trace) -> Verdict {
        let Some(taken) = self.listener(call) else { return Verdict::Refused };
        trace.listener = Some(taken.serves.name.clone());
        trace.steps.extend(self.listener_steps(taken, call));
        let seen = ConnectionInfo::through(taken, call);
        let Some(chain) = chain(taken.serves, call, &seen) else {
            return Verdict::Closed(Closed::NoFilterChain);
        };
        trace.chain = Some(chain.name.clone());
        trace.steps.push(chain_step(chain, &seen));
        match inside(chain, call) {
            Ok(inside) => self.filters(chain, call, inside, trace),
            Err(why) => Verdict::Closed(why),
        }
    }

    fn listener_steps(&self, taken: SelectedListener<'_>, call: &Call) -> Vec<Step> {
        let step = |listener: &Listener, what: String| Step {
            stage: Stage::Listener,
            name: listener.name.clone(),
            what,
            origins: self.origins_of(ResourceType::Listener, &listener.name),
        };
        if std::ptr::eq(taken.accepted, taken.serves) {
            return vec![step(taken.serves, format!("takes {}", call.to))];
        }
        let handed = format!("hands {} over", call.to);
        vec![step(taken.accepted, handed), step(taken.serves, "takes it".to_owned())]
    }

    /// Evaluates the filters of a chain, in order, up to the terminal one.
    fn filters(&self, chain: &FilterChain, call: &Call, inside: Visibility, trace: &mut Trace) -> Verdict {
        let mut by_name = None;
        let mut filled = Vec::new();
        for filter in &chain.filters {
            if let Some(tcp) = message::<TcpProxy>(filter) {
                return dynamic_forward_proxy::looked_up(self.tcp(&tcp, by_name.as_deref(), trace), &filled);
            }
            if let Some(manager) = message::<HttpConnectionManager>(filter) {
                return match (&call.payload, inside) {
                    (Payload::Http(request), Visibility::Plain | Visibility::Decrypted) => {
                        let verdict = self.http(&manager, call, request, inside, trace);
                        dynamic_forward_proxy::looked_up(verdict, &dynamic_forward_proxy::filled_by(&manager))
                    }
                    _ => not_understood(&manager),
                };
            }
            if message::<SniCluster>(filter).is_some() {
                by_name = call.tls.as_ref().map(|tls| tls.sni.clone()).filter(|name| !name.is_empty());
                continue;
            }
            if let Some(cache) = dynamic_forward_proxy::filled_by_sni(filter) {
                filled.push(cache);
                continue;
            }
            let kind = match &filter.config_type {
                Some(filter::ConfigType::TypedConfig(any)) => {
                    any.type_url.rsplit('.').next().unwrap_or_default()
                }
                _ => "",
            };
            // Of all network filters that end a connection, those that Istio knows besides.
            if ["RedisProxy", "DirectResponse", "EchoFilter", "ThriftProxy"]
                .iter()
                .any(|known| kind.starts_with(known))
            {
                return Verdict::Unknown(filter.name.clone());
            }
            trace.steps.push(Step {
                stage: Stage::Filter,
                name: filter.name.clone(),
                what: "is passed; what it does is not imagined".to_owned(),
                origins: Vec::new(),
            });
        }
        Verdict::Closed(Closed::NoFilter)
    }

    fn tcp(&self, tcp: &TcpProxy, by_name: Option<&str>, trace: &mut Trace) -> Verdict {
        trace.policy = route_policy::of_bytes(tcp);
        let shares: Vec<(String, u32)> = match (by_name, &tcp.cluster_specifier) {
            // `envoy.tcp_proxy.cluster`, which the filter sets, goes first.
            (Some(name), _) => vec![(name.to_owned(), 1)],
            (None, Some(tcp_proxy::ClusterSpecifier::Cluster(name))) => vec![(name.clone(), 1)],
            (None, Some(tcp_proxy::ClusterSpecifier::WeightedClusters(split))) => {
                split.clusters.iter().map(|part| (part.name.clone(), part.weight)).collect()
            }
            (None, None) => return Verdict::Closed(Closed::NoFilter),
        };
        let share = |(cluster, weight): (String, u32)| {
            let (upstream, step) = self.upstream(&cluster);
            trace.steps.push(step);
            let settings = self.settings(&cluster);
            Share { cluster, weight, request: None, upstream, settings }
        };
        Verdict::Forwarded(shares.into_iter().filter(|(_, weight)| *weight > 0).map(share).collect())
    }
}

fn chain_step(chain: &FilterChain, seen: &ConnectionInfo) -> Step {
    let name = Some(&seen.server_name).filter(|name| !name.is_empty()).map(|name| format!(" for {name}"));
    let offers = Some(seen.applications.join(" ")).filter(|offers| !offers.is_empty());
    let offers = offers.map(|offers| format!(", offered {offers}"));
    let what = format!("serves {}{}{}", seen.transport, name.unwrap_or_default(), offers.unwrap_or_default());
    let tls_summary = terminated(chain).and_then(|context| context.common_tls_context);
    let tls_summary = tls_summary.iter().flat_map(tls_summary::words).map(|said| format!("; {said}"));
    let what = what + &tls_summary.collect::<String>();
    let origins = source_objects::of(chain.metadata.as_ref());
    Step { stage: Stage::FilterChain, name: chain.name.clone(), what, origins }
}

/// Returns the result of the chain's transport socket.
fn inside(chain: &FilterChain, call: &Call) -> Result<Visibility, Closed> {
    match (terminated(chain), &call.tls) {
        (None, None) => Ok(Visibility::Plain),
        (None, Some(_)) => Ok(Visibility::Encrypted),
        (Some(_), None) => Err(Closed::NotTls),
        (Some(context), Some(tls)) => {
            let wants = |flag: &Option<pilot_proto::google::protobuf::BoolValue>| {
                flag.as_ref().is_some_and(|on| on.value)
            };
            let nameless = wants(&context.require_sni) && tls.sni.is_empty();
            let uncertified =
                wants(&context.require_client_certificate) && tls.certificate == Certificate::None;
            if nameless || uncertified { Err(Closed::Handshake) } else { Ok(Visibility::Decrypted) }
        }
    }
}

/// Returns the TLS context of a chain that terminates TLS.
fn terminated(chain: &FilterChain) -> Option<DownstreamTlsContext> {
    match chain.transport_socket.as_ref()?.config_type.as_ref()? {
        transport_socket::ConfigType::TypedConfig(config) => unpack(config),
    }
}
