//! Endpoints, and the listeners of a proxy before them. The bootstrap is data: tests change it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::load::{Class, Identity, Load, REVISION};
use crate::net::{free_port, get_ok};
use crate::upstream::{ENDPOINT, Upstream};

/// The name in requests and in the certificate.
const HOST: &str = "web.example";

/// Endpoints behind: one that speaks HTTP, one that speaks lines. Dropping it ends them.
pub struct Stage {
    ip: IpAddr,
    web: Upstream,
    db: Upstream,
    identity: Identity,
}

/// Addresses and keys of one proxy and its clients.
#[derive(Clone)]
pub struct Front {
    /// HTTP of both versions; `/revision` is answered by the proxy itself.
    pub http: SocketAddr,
    /// The same over TLS.
    pub tls: SocketAddr,
    /// Lines, by `tcp_proxy`.
    pub tcp: SocketAddr,
    /// The endpoint behind HTTP.
    pub web: SocketAddr,
    /// The endpoint behind `tcp_proxy`.
    pub db: SocketAddr,
    /// Certificate of the proxy.
    pub identity: Identity,
}

// === impl Stage ===

impl Stage {
    /// Starts endpoints on this loopback address, of either family.
    pub async fn start(ip: IpAddr) -> Result<Self> {
        Ok(Self {
            ip,
            web: Upstream::http("web", (ip, free_port()?).into()).await?,
            db: Upstream::tcp("db", (ip, free_port()?).into()).await?,
            identity: Identity::new(&[HOST])?,
        })
    }

    /// Ports for one more proxy before them.
    pub fn front(&self) -> Result<Front> {
        let free = || Ok::<_, anyhow::Error>((self.ip, free_port()?).into());
        let (web, db, identity) = (self.web.address(), self.db.address(), self.identity.clone());
        Ok(Front { http: free()?, tls: free()?, tcp: free()?, web, db, identity })
    }
}

// === impl Front ===

impl Front {
    /// Requests of this class. Lines go to `tcp_proxy`, everything else to HTTP.
    pub fn load(&self, class: Class) -> Load {
        let to = match class {
            Class::Tcp | Class::Tunnel => self.tcp,
            _ => self.http,
        };
        Load::new(class, to, HOST)
    }

    /// HTTP requests of this class over TLS.
    pub fn load_over_tls(&self, class: Class) -> Result<Load> {
        Load::new(class, self.tls, HOST).over_tls(&self.identity)
    }

    /// The usual mix, by name: every class but those that hold connections, and TLS, kept and new.
    pub fn mix(&self) -> Result<Vec<(&'static str, Load)>> {
        Ok(vec![
            ("keep-alive", self.load(Class::KeepAlive)),
            ("new", self.load(Class::New)),
            ("http2", self.load(Class::Http2)),
            ("stream", Load { clients: 4, ..self.load(Class::Stream) }),
            ("tcp", self.load(Class::Tcp)),
            ("tls", self.load_over_tls(Class::KeepAlive)?),
            ("tls-new", Load { clients: 1, ..self.load_over_tls(Class::New)? }),
        ])
    }

    /// Returns the revision that responds to a new connection.
    pub async fn revision(&self) -> Result<u32> {
        let body = get_ok(self.http, "/revision").await?;
        body.trim().parse().with_context(|| format!("{body:?} is no revision"))
    }

    /// Returns a bootstrap for this front that returns `revision` with every HTTP response.
    pub fn bootstrap(&self, revision: u32, admin: SocketAddr) -> Value {
        let (web, db) = (cluster("web", self.web), cluster("db", self.db));
        let manager = filter("http_connection_manager.v3.HttpConnectionManager", http(revision));
        let proxy = filter("tcp_proxy.v3.TcpProxy", json!({"stat_prefix": "tcp", "cluster": "db"}));
        let plain = |filter: &Value| json!([{"filters": [filter]}]);
        let secure = json!([{"filters": [manager], "transport_socket": tls(&self.identity)}]);
        json!({
            "node": {"id": "solo", "cluster": "solo"},
            "admin": {"address": address(admin)},
            "static_resources": {
                "listeners": [
                    listener("http", self.http, &plain(&manager)),
                    listener("tls", self.tls, &secure),
                    listener("tcp", self.tcp, &plain(&proxy)),
                ],
                "clusters": [web, db],
            },
        })
    }
}

fn http(revision: u32) -> Value {
    let header = |key: &str, value: String| json!({"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"});
    let own = json!({
        "match": {"path": "/revision"},
        "direct_response": {"status": 200, "body": {"inline_string": format!("{revision}\n")}},
        "response_headers_to_add": [header(ENDPOINT, "envoy".to_owned())],
    });
    json!({
        "stat_prefix": "http",
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [own, {"match": {"prefix": "/"}, "route": {"cluster": "web"}}],
            }],
            "response_headers_to_add": [header(REVISION, revision.to_string())],
        },
        "http_filters": [{
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    })
}

fn filter(kind: &str, mut config: Value) -> Value {
    let kind = format!("type.googleapis.com/envoy.extensions.filters.network.{kind}");
    if let Some(config) = config.as_object_mut() {
        config.insert("@type".to_owned(), kind.into());
    }
    json!({"name": "it", "typed_config": config})
}

fn tls(identity: &Identity) -> Value {
    let (certificate, key) = (&identity.certificate_pem, &identity.key_pem);
    json!({
        "name": "tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": certificate},
                    "private_key": {"inline_string": key},
                }],
            },
        },
    })
}

/// Inbound: a sidecar drains those for others first, and these are.
fn listener(name: &str, at: SocketAddr, chains: &Value) -> Value {
    json!({"name": name, "address": address(at), "traffic_direction": "INBOUND", "filter_chains": chains})
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": address(to)}});
    json!({"name": name, "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}
