//! Cost of changed routes, and sharing of generated resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_core::api::de;
use pilot_core::cache::{Cache, resources};
use pilot_core::model::{Change, ConfigMeta, ConfigObject, ConfigSpec, ResourceSet, SourceEvent, SourceId};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_core::world::World;
use pilot_proto::ResourceType;

use crate::fixture::*;

/// World that changes.
struct Changing {
    world: World,
    push: PushContext,
    cache: Cache,
    source: SourceId,
}

impl Changing {
    fn of(services: Vec<Declared>) -> Self {
        let source = SourceId("test".into());
        let world = World::new("cluster.local", [source.clone()]);
        let mut made = Self { world, push: PushContext::default(), cache: Cache::default(), source };
        for declared in services {
            made.say(Change::Service(Arc::new(declared.service)));
        }
        made
    }

    fn say(&mut self, change: Change) {
        drop(self.world.apply(&self.source, SourceEvent::Change(change)));
        self.push = self.push.next(&self.world);
    }

    fn config(&mut self, name: &str, spec: ConfigSpec) {
        let meta = ConfigMeta {
            namespace: "default".into(),
            name: name.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: 0,
        };
        self.say(Change::Config(Arc::new(ConfigObject { meta, spec })));
    }

    fn rules(&mut self, name: &str, http: &serde_json::Value) {
        let spec = serde_json::json!({"hosts": [name], "http": http});
        self.config(name, ConfigSpec::VirtualService(de::message("spec", &spec).unwrap().value));
    }

    /// Returns routes of these names for a sidecar in namespace `default` with these labels.
    fn ask(&self, app: &str, asked: &[&str]) -> ResourceSet {
        let mut proxy = sidecar("10.9.0.1", "default");
        proxy.metadata.labels.insert("app".into(), app.into());
        let scope = Scope::of(&self.push, ScopeKey::of(&self.push, &proxy), None);
        let asked = names(asked.iter().copied());
        resources(&self.cache, &self.push, &scope, &proxy, ResourceType::Route, Some(&asked)).resources
    }

    /// Returns the number of generated routes so far.
    fn made(&self) -> u64 {
        self.cache.stats()[&ResourceType::Route].misses
    }
}

/// Creates a hundred services, each with a port of its own with protocol detection, ten of them also with port 80.
fn a_hundred() -> (Changing, Vec<String>) {
    let service = |number: u16| {
        let declared = kubernetes(&format!("s{number}.default")).port("", 7000 + number);
        let declared = if number < 10 { declared.port("http", 80) } else { declared };
        declared.vip(&format!("10.0.0.{}", number + 1))
    };
    let own = (0..100).map(|number| format!("s{number}.default.svc.cluster.local:{}", 7000 + number));
    (Changing::of((0..100).map(service).collect()), own.chain(["80".to_owned()]).collect())
}

#[test]
fn changed_rules_cost_the_routes_of_their_services() {
    let (mut changing, asked) = a_hundred();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let to = |host: &str| serde_json::json!([{"route": [{"destination": {"host": host}}]}]);
    for number in 0..100 {
        changing.rules(&format!("s{number}"), &to("s1"));
    }
    assert_eq!(changing.ask("web", &asked).len(), 101);
    for (name, costs) in [("s5", 2), ("s50", 1)] {
        let before = changing.made();
        changing.rules(name, &to("s2"));
        changing.ask("web", &asked);
        assert_eq!(changing.made() - before, costs, "{name}");
    }

    // Settings without effect on requests regenerate no routes; hash policies regenerate the routes to their host.
    let policy = |said: serde_json::Value| {
        let spec = serde_json::json!({"host": "s60", "trafficPolicy": said});
        ConfigSpec::DestinationRule(de::message("spec", &spec).unwrap().value)
    };
    let before = changing.made();
    changing.config("s60", policy(serde_json::json!({"connectionPool": {"tcp": {"maxConnections": 1}}})));
    changing.ask("web", &asked);
    assert_eq!(changing.made() - before, 0);
    changing.config(
        "s60",
        policy(serde_json::json!({"loadBalancer": {"consistentHash": {"useSourceIp": true}}})),
    );
    changing.ask("web", &asked);
    assert_eq!(changing.made() - before, 1);
}

#[test]
fn clients_that_rules_do_not_tell_apart_share_routes() {
    let (mut changing, _) = a_hundred();
    let rules = serde_json::json!([{"match": [{"sourceLabels": {"app": "web"}}], "route": [{"destination": {"host": "s1"}}]}]);
    changing.rules("s50", &rules);
    let (own, other) = ("s50.default.svc.cluster.local:7050", "s51.default.svc.cluster.local:7051");
    let asked = [own, other, "80"];
    let sets = ["web", "shop", "bank"].map(|app| changing.ask(app, &asked));
    assert_eq!(changing.made(), 4, "three, and one for the only ones who are told apart");
    let version = |set: &ResourceSet, name: &str| set.get(name).unwrap().version.clone();
    assert_ne!(version(&sets[0], own), version(&sets[1], own));
    assert_eq!(version(&sets[1], own), version(&sets[2], own));
    assert_eq!(version(&sets[0], "80"), version(&sets[2], "80"));
}
