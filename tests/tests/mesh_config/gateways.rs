//! `Gateway`: an ingress gateway, its servers and their certificates.

use anyhow::{Context as _, Result, ensure};
use pilot_tests::http_request::HttpRequest;
use pilot_tests::load::Identity;
use pilot_tests::mesh::{Options, Sidecar};
use pilot_tests::net::{free_port, local, loopback};
use pilot_tests::wait::eventually;

use super::bookshop::{BookshopMesh, CHANGE, SUBSETS};

const HOSTS: [&str; 2] = ["a.example.com", "b.example.com"];

/// An ingress gateway in front of `web`.
struct IngressGateway {
    shop: BookshopMesh,
    gateway: Sidecar,
    http: u16,
    redirected: u16,
    https: u16,
    tcp: u16,
    identities: [Identity; 2],
}

// === impl IngressGateway ===

impl IngressGateway {
    async fn open() -> Result<Self> {
        let shop = BookshopMesh::open("").await?;
        let identities = [Identity::new(&HOSTS[..1])?, Identity::new(&HOSTS[1..])?];
        let options = Options { role: "router", pod: "edge", ip: loopback(9), ..Options::new()? };
        let gateway = shop.mesh.join(&options).await?;
        let (http, redirected, https, tcp) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let edge = Self { shop, gateway, http, redirected, https, tcp, identities };
        edge.shop.set_rules(&edge.manifests()?)?;
        Ok(edge)
    }

    fn manifests(&self) -> Result<String> {
        let Self { http, redirected, https, tcp, shop, .. } = self;
        let mut servers = Vec::new();
        let mut rules = Vec::new();
        for ((host, identity), version) in HOSTS.iter().zip(&self.identities).zip(["v1", "v2"]) {
            let file = |kind: &str, pem: &str| -> Result<String> {
                let path = shop.mesh.dir.path().join(format!("{host}.{kind}"));
                std::fs::write(&path, pem)?;
                Ok(path.to_str().context("a path in UTF-8")?.to_owned())
            };
            let (certificate, key) =
                (file("crt", &identity.certificate_pem)?, file("key", &identity.key_pem)?);
            servers.push(format!(
                "  - {{port: {{number: {https}, name: https-{version}, protocol: HTTPS}}, hosts: [{host}],
     tls: {{mode: SIMPLE, serverCertificate: {certificate}, privateKey: {key}}}}}"
            ));
            rules.push(format!(
                "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {version}}}
spec: {{gateways: [edge], hosts: [{host}], http: [{{route: [{{destination: {{host: web, subset: {version}}}}}]}}]}}
"
            ));
        }
        Ok(format!(
            "{SUBSETS}---
apiVersion: v1
kind: Pod
metadata: {{name: edge, namespace: default, labels: {{istio: ingressgateway}}}}
status: {{phase: Running, podIP: 127.0.0.9, podIPs: [{{ip: 127.0.0.9}}], conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: {http}, name: http, protocol: HTTP}}, hosts: ['*.example.com']}}
  - {{port: {{number: {redirected}, name: http-old, protocol: HTTP}}, hosts: ['*.example.com'], tls: {{httpsRedirect: true}}}}
  - {{port: {{number: {tcp}, name: tcp, protocol: TCP}}, hosts: ['*']}}
{}
{}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bytes}}
spec: {{gateways: [edge], hosts: ['*'], tcp: [{{match: [{{port: {tcp}}}], route: [{{destination: {{host: web, subset: v3}}}}]}}]}}
",
            servers.join("\n"),
            rules.concat(),
        ))
    }

    async fn close(self) -> Result<()> {
        self.gateway.ensure_no_rejection().await?;
        self.shop.close().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_serves_http_redirects_and_tcp() -> Result<()> {
    let edge = IngressGateway::open().await?;
    for (host, version) in HOSTS.into_iter().zip(["v1", "v2"]) {
        let request = HttpRequest::get(local(edge.http), host, "/");
        eventually(CHANGE, "the gateway serves", async || request.send().await?.ensure_ok_from(version))
            .await?;
    }
    let stranger = HttpRequest::get(local(edge.http), "c.example.com", "/").send().await?;
    ensure!(stranger.status == 404, "{stranger:?}");
    let old = HttpRequest::get(local(edge.redirected), HOSTS[0], "/x").send().await?;
    ensure!(
        (old.status, old.header("location")) == (301, "https://a.example.com/x"),
        "plaintext is redirected to HTTPS: {old:?}"
    );
    // A TCP server ignores the host.
    HttpRequest::get(local(edge.tcp), "any", "/").send().await?.ensure_ok_from("v3")?;
    edge.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_selects_certificate_and_routes_by_sni() -> Result<()> {
    let edge = IngressGateway::open().await?;
    for ((host, identity), version) in HOSTS.into_iter().zip(&edge.identities).zip(["v1", "v2"]) {
        let request = HttpRequest::get(local(edge.https), host, "/").over_tls(identity, host)?;
        eventually(CHANGE, "the gateway serves", async || request.send().await?.ensure_ok_from(version))
            .await?;
    }
    let [first, _] = &edge.identities;
    let wrong = HttpRequest::get(local(edge.https), HOSTS[1], "/").over_tls(first, HOSTS[1])?.send().await;
    ensure!(wrong.is_err(), "the second host has the certificate of the first: {wrong:?}");
    let unknown =
        HttpRequest::get(local(edge.https), "c.example.com", "/").over_tls(first, "c.example.com")?;
    ensure!(unknown.send().await.is_err(), "an unknown SNI is served");
    let mixed = HttpRequest::get(local(edge.https), HOSTS[1], "/").over_tls(first, HOSTS[0])?.send().await?;
    ensure!(mixed.status == 404, "a host is served under the certificate of another: {mixed:?}");
    edge.close().await
}
