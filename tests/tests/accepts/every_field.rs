//! Every group of fields of Istio's networking API, in objects of which each serves: Envoy takes what becomes of them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use pilot_tests::load::Identity;
use pilot_tests::mesh::{Interception, Mesh, Options, Sidecar};
use pilot_tests::net::{free_port, get_ok, loopback};
use pilot_tests::wait::eventually;
use serde_json::Value;

use super::IN_USE;

/// Ten services, `s0` to `s9`, each with a port for HTTP and one for bytes, two endpoints in two zones; two pods that have proxies.
fn services() -> String {
    PODS.to_owned() + &(0..10).map(|i| SERVICE.replace("NUMBER", &i.to_string())).collect::<String>()
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default, labels: {app: client}}
status: {phase: Running, podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: default, labels: {istio: ingressgateway}}
status: {phase: Running, podIP: 127.0.0.9, podIPs: [{ip: 127.0.0.9}], conditions: [{type: Ready, status: 'True'}]}
";

const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: sNUMBER, namespace: default}
spec: {clusterIP: 10.11.1.NUMBER, ports: [{name: http, port: 80}, {name: tcp, port: 81}, {name: tls, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sNUMBER-1, namespace: default, labels: {kubernetes.io/service-name: sNUMBER}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp, port: 8081}, {name: tls, port: 8443}]
endpoints:
- {addresses: [10.200.NUMBER.1], zone: z1, conditions: {ready: true}}
- {addresses: [10.200.NUMBER.2], zone: z2, conditions: {ready: true}}
";

/// Each kind's fields, where they exclude each other in objects of their own.
const RULES: &str = r"
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: s0, namespace: default}
spec:
  hosts: [s0]
  exportTo: ['.']
  http:
  - name: matched
    match:
    - {uri: {prefix: /a}, scheme: {exact: http}, method: {exact: GET}, authority: {regex: 's0.*'}, ignoreUriCase: true}
    - {uri: {regex: '/b/[0-9]+'}, headers: {x-a: {exact: b}, x-b: {prefix: c}, x-c: {regex: 'd+'}, x-d: {}}, withoutHeaders: {x-e: {exact: f}}}
    - {uri: {exact: /c}, queryParams: {q: {exact: r}, p: {regex: '[0-9]'}}, port: 80, sourceLabels: {app: client}, sourceNamespace: default}
    route:
    - destination: {host: s1, port: {number: 80}}
      weight: 30
      headers: {request: {set: {a: b}, add: {c: d}, remove: [e]}, response: {set: {f: g}, add: {h: i}, remove: [j]}}
    - {destination: {host: s0, subset: v1}, weight: 70}
    rewrite: {uri: /z, authority: z.example.com}
    timeout: 3s
    retries: {attempts: 3, perTryTimeout: 1s, retryOn: '5xx,gateway-error,503', retryRemoteLocalities: true, backoff: 10ms, retryIgnorePreviousHosts: false}
    fault:
      delay: {fixedDelay: 5s, percentage: {value: 0.1}}
      abort: {httpStatus: 500, percentage: {value: 0.1}}
    mirrors: [{destination: {host: s2}, percentage: {value: 5}}, {destination: {host: s3}, percentage: {value: 7}}]
    corsPolicy: {allowOrigins: [{exact: 'https://a.example.com'}, {regex: '.*'}], allowMethods: [GET, POST], allowHeaders: [x-a], exposeHeaders: [x-b], maxAge: 24h, allowCredentials: true, unmatchedPreflights: IGNORE}
    headers: {request: {set: {x-z: other}}, response: {remove: [server]}}
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, authority: n.example.com, scheme: https, port: 8443, redirectCode: 308}
  - match: [{uri: {prefix: /moved}}]
    redirect: {derivePort: FROM_REQUEST_PORT, redirectCode: 302}
  - match: [{uri: {prefix: /said}}]
    directResponse: {status: 418, body: {string: teapot}}
  - match: [{uri: {prefix: /raw}}]
    directResponse: {status: 200, body: {bytes: aGVsbG8=}}
  - match: [{uri: {prefix: /regex}}]
    rewrite: {uriRegexRewrite: {match: '/regex/(.*)', rewrite: '/\1'}}
    route: [{destination: {host: s4}}]
  - match: [{uri: {prefix: /grpc}}]
    fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}
    mirror: {host: s5}
    mirrorPercentage: {value: 50}
    route: [{destination: {host: s5}}]
  - {name: delegated, match: [{uri: {prefix: /delegated}}], delegate: {name: delegate, namespace: default}}
  - name: rest
    route: [{destination: {host: s0}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: delegate, namespace: default}
spec:
  http:
  - {match: [{uri: {prefix: /delegated/x}}], route: [{destination: {host: s6}}]}
  - route: [{destination: {host: s7}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: l4, namespace: default}
spec:
  hosts: [s8, '*.sni.example.com']
  tcp:
  - match: [{port: 81, destinationSubnets: [10.11.1.8/32], sourceLabels: {app: client}}]
    route: [{destination: {host: s8, port: {number: 81}}, weight: 20}, {destination: {host: s9, port: {number: 81}}, weight: 80}]
  tls:
  - match: [{port: 443, sniHosts: [a.sni.example.com]}]
    route: [{destination: {host: s8, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s0, namespace: default}
spec:
  host: s0
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: v2, labels: {version: v2}}
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 30s, minimumPercent: 20, aggression: 2}, localityLbSetting: {failoverPriority: [topology.kubernetes.io/region, 'version=v1']}}
    connectionPool:
      tcp: {maxConnections: 10, connectTimeout: 2s, tcpKeepalive: {probes: 3, time: 10s, interval: 5s}, maxConnectionDuration: 1h, idleTimeout: 2h}
      http: {http1MaxPendingRequests: 5, http2MaxRequests: 7, maxRequestsPerConnection: 9, maxRetries: 2, idleTimeout: 3m, h2UpgradePolicy: UPGRADE, useClientProtocol: false, maxConcurrentStreams: 50}
    outlierDetection: {consecutive5xxErrors: 3, consecutiveGatewayErrors: 2, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4, interval: 5s, baseEjectionTime: 20s, maxEjectionPercent: 40, minHealthPercent: 30}
    portLevelSettings:
    - {port: {number: 81}, connectionPool: {tcp: {maxConnections: 3}}, outlierDetection: {consecutive5xxErrors: 1}, loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s1, namespace: default}
spec: {host: s1, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 2048}}}, tls: {mode: SIMPLE, sni: s1.example.com, subjectAltNames: [s1.example.com, 'spiffe://a/b'], caCertificates: CERTIFICATE}, proxyProtocol: {version: V2}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s2, namespace: default}
spec: {host: s2, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: session, path: /, ttl: 0s, attributes: [{name: SameSite, value: Strict}]}, maglev: {tableSize: 65537}}}, tls: {mode: MUTUAL, clientCertificate: CERTIFICATE, privateKey: KEY, caCertificates: CERTIFICATE}, retryBudget: {percent: 25, minRetryConcurrency: 5}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s3, namespace: default}
spec: {host: s3, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}, connectionPool: {http: {useClientProtocol: true}}, tls: {mode: SIMPLE, insecureSkipVerify: true}, proxyProtocol: {version: V1}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s4, namespace: default}
spec: {host: s4, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: q}, localityLbSetting: {distribute: [{from: '*', to: {'r1/*': 100}}]}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s5, namespace: default}
spec: {host: s5, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s6, namespace: default}
spec: {host: s6, workloadSelector: {matchLabels: {app: client}}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {failover: [{from: r1, to: r2}]}}, outlierDetection: {consecutive5xxErrors: 1}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: default}
spec:
  hosts: [static.example.com]
  addresses: [10.12.0.1, 10.12.1.0/24]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 9000, name: bytes, protocol: TCP}, {number: 443, name: tls, protocol: TLS}, {number: 3306, name: mysql, protocol: MYSQL}, {number: 27017, name: mongo, protocol: MONGO}, {number: 6379, name: redis, protocol: REDIS}, {number: 50051, name: grpc, protocol: GRPC}]
  location: MESH_EXTERNAL
  resolution: STATIC
  exportTo: ['*']
  subjectAltNames: [static.example.com]
  endpoints:
  - {address: 10.201.0.1, ports: {http: 8081}, labels: {version: v1}, locality: r1/z1/s1, weight: 3}
  - {address: 10.201.0.2, network: other}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: selected, namespace: default}
spec: {hosts: [selected.example.com], addresses: [10.12.0.2], ports: [{number: 80, name: http, protocol: HTTP}], location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {labels: {app: machine}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine, namespace: default}
spec: {address: 10.202.0.1, ports: {http: 8080}, labels: {app: machine, version: v1}, locality: r1/z1, weight: 2, serviceAccount: machine}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: machines, namespace: default}
spec: {metadata: {labels: {app: machine}}, template: {ports: {http: 8080}, serviceAccount: machine}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: unix, namespace: default}
spec: {hosts: [unix.example.com], addresses: [10.12.0.3], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 'unix:///tmp/nobody.sock'}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dns, namespace: default}
spec: {hosts: [dns.example.com], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], resolution: DNS, endpoints: [{address: localhost}, {address: localhost, locality: r2}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: logical, namespace: default}
spec: {hosts: [localhost], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS_ROUND_ROBIN}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: none, namespace: default}
spec: {hosts: ['*.none.example.com'], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dynamic, namespace: default}
spec: {hosts: ['*.dynamic.example.com'], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], resolution: DYNAMIC_DNS}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: patches, namespace: default}
spec:
  configPatches:
  - {applyTo: HTTP_FILTER, match: {context: SIDECAR_OUTBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}, patch: {operation: INSERT_BEFORE, value: {name: envoy.filters.http.lua, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inlineCode: 'function envoy_on_request(handle) end'}}}}
  - {applyTo: NETWORK_FILTER, match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}, patch: {operation: MERGE, value: {typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, max_request_headers_kb: 80}}}}
  - {applyTo: CLUSTER, match: {context: SIDECAR_OUTBOUND, cluster: {service: s9.default.svc.cluster.local}}, patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 65536}}}
  - {applyTo: CLUSTER, match: {context: ANY}, patch: {operation: ADD, value: {name: extra, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: extra}}}}
  - {applyTo: VIRTUAL_HOST, match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: 's9.default.svc.cluster.local:80'}}}, patch: {operation: MERGE, value: {include_request_attempt_count: false}}}
  - {applyTo: HTTP_ROUTE, match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: 's9.default.svc.cluster.local:80', route: {action: ANY}}}}, patch: {operation: MERGE, value: {route: {timeout: 9s}}}}
  - {applyTo: ROUTE_CONFIGURATION, match: {context: SIDECAR_OUTBOUND}, patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: 'yes'}}]}}}
  - {applyTo: LISTENER, match: {context: SIDECAR_INBOUND}, patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 32768}}}
  - {applyTo: LISTENER_FILTER, match: {context: SIDECAR_INBOUND}, patch: {operation: INSERT_FIRST, value: {name: envoy.filters.listener.local_ratelimit, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit, stat_prefix: a, token_bucket: {max_tokens: 1000, fill_interval: 1s}}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: PORT1, name: http, protocol: HTTP}, hosts: ['default/*', '*.other.example.com'], name: first}
  - {port: {number: PORT2, name: https, protocol: HTTPS}, hosts: [simple.example.com], tls: {mode: SIMPLE, serverCertificate: CERTIFICATE, privateKey: KEY, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]}}
  - {port: {number: PORT2, name: https-mutual, protocol: HTTPS}, hosts: [mutual.example.com], tls: {mode: MUTUAL, serverCertificate: CERTIFICATE, privateKey: KEY, caCertificates: CERTIFICATE, subjectAltNames: [client.example.com]}}
  - {port: {number: PORT2, name: https-maybe, protocol: HTTPS}, hosts: [maybe.example.com], tls: {mode: OPTIONAL_MUTUAL, serverCertificate: CERTIFICATE, privateKey: KEY, caCertificates: CERTIFICATE}}
  - {port: {number: PORT3, name: tls, protocol: TLS}, hosts: ['*.sni.example.com'], tls: {mode: PASSTHROUGH}}
  - {port: {number: PORT4, name: tcp, protocol: TCP}, hosts: ['*']}
  - {port: {number: PORT5, name: tls-auto, protocol: TLS}, hosts: ['*.cluster.local'], tls: {mode: AUTO_PASSTHROUGH}}
  - {port: {number: PORT6, name: redirected, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: default}
spec:
  gateways: [edge]
  hosts: [simple.example.com, mutual.example.com, maybe.example.com, a.other.example.com, b.sni.example.com]
  http: [{match: [{gateways: [edge], uri: {prefix: /}}], retries: {attempts: 0}, route: [{destination: {host: s9, port: {number: 80}}}]}]
  tls: [{match: [{sniHosts: [b.sni.example.com]}], route: [{destination: {host: s9, port: {number: 443}}}]}]
  tcp: [{match: [{port: PORT4}], route: [{destination: {host: s9, port: {number: 81}}}]}]
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: default}
spec: {concurrency: 1}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: all, namespace: default}
spec: {accessLogging: [{providers: [{name: envoy}]}]}
";

/// What one workload serves and may see.
const SIDECAR: &str = r"
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: client, namespace: default}
spec:
  workloadSelector: {labels: {app: client}}
  ingress:
  - {port: {number: PORT7, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080', connectionPool: {http: {http2MaxRequests: 5}}}
  - {port: {number: PORT8, protocol: TCP, name: bytes}, defaultEndpoint: 'unix:///tmp/nobody.sock'}
  egress:
  - {port: {number: PORT9, protocol: HTTP, name: own}, bind: 127.0.0.1, captureMode: NONE, hosts: ['./s1.default.svc.cluster.local']}
  - {port: {number: PORT10, protocol: HTTP_PROXY, name: proxy}, bind: 127.0.0.1, captureMode: NONE, hosts: ['./*']}
  - {bind: 'unix://FOLDER/egress.sock', port: {number: 0, protocol: HTTP, name: socket}, hosts: ['./s2.default.svc.cluster.local']}
  - {hosts: ['./*']}
  inboundConnectionPool: {tcp: {maxConnections: 100}, http: {http2MaxRequests: 50}}
  outboundTrafficPolicy: {mode: ALLOW_ANY}
";

/// The rules with free ports, paths and certificates of this run.
fn filled(text: &str, mesh: &Mesh) -> Result<String> {
    let folder = mesh.dir.path().to_str().context("a path in UTF-8")?;
    let mut filled = text
        .replace("CERTIFICATE", &format!("{folder}/server.crt"))
        .replace("KEY", &format!("{folder}/server.key"))
        .replace("FOLDER", folder);
    // From the last: PORT1 is the beginning of PORT10.
    for number in (1..=10).rev() {
        let place = format!("PORT{number}");
        if filled.contains(&place) {
            filled = filled.replace(&place, &free_port()?.to_string());
        }
    }
    Ok(filled)
}

/// Waits until the proxy uses what one of the rules brings, and everything else; nothing was refused.
async fn taken(proxy: &Sidecar, mesh: &Mesh, mark: &str) -> Result<()> {
    let in_use = eventually(IN_USE, "everything is in use", async || {
        let dump = get_ok(proxy.admin, "/config_dump").await?;
        ensure!(dump.contains(mark), "{mark} is not in what Envoy has");
        proxy.settled().await
    });
    in_use.await?;
    proxy.no_rejection().await?;
    mesh.discovery.no_rejection().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_of_fields_in_sidecars_and_gateways() -> Result<()> {
    let none: [Value; 0] = [];
    let options = Options { interception: Interception::Redirect, ..Options::new()? };
    let mut mesh = Mesh::start(&none, &options).await?;
    let identity = Identity::new(&["simple.example.com"])?;
    fs::write(mesh.dir.path().join("server.crt"), &identity.certificate_pem)?;
    fs::write(mesh.dir.path().join("server.key"), &identity.key_pem)?;
    let edge = Options { role: "router", pod: "edge", ip: loopback(9), ..Options::new()? };
    let edge = mesh.join(&edge).await?;

    let rules = format!("{}{}", services(), filled(RULES, &mesh)?);
    mesh.folder.write_text("rules.yaml", &rules)?;
    taken(&mesh.sidecar, &mesh, "x-patched").await?;
    taken(&edge, &mesh, "simple.example.com").await?;
    let log = mesh.discovery.log();
    ensure!(!log.contains("; what was there before stays"), "an object does not serve:\n{log}");

    mesh.folder.write_text("sidecar.yaml", &filled(SIDECAR, &mesh)?)?;
    taken(&mesh.sidecar, &mesh, "egress.sock").await?;
    mesh.is_sound().await
}
