//! Fuzzes configuration objects, and everything that is generated from them.
//!
//! Bytes change fields of manifests in which every group of fields is used. The objects that validation accepts are the rules of
//! a mesh: resources are generated for sidecars and a gateway without a panic, and Envoy would not reject any of them for its own
//! content (duplicate names, matches or domains, dangling references), unless a patch caused it.

#![no_main]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "the fixture is the tests'")]

#[path = "../../tests/fixture/mod.rs"]
mod fixture;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use pilot_core::model::{Change, ConfigKind, ConfigMeta, ConfigObject, ConfigSpec, Proxy, SourceEvent, SourceId};
use pilot_core::push::PushContext;
use pilot_core::simulate::Client;
use pilot_core::validate::{self, Severity};
use pilot_proto::node::NodeType;
use serde_json::{Value, json};

/// Kind, name and spec of every object.
static OBJECTS: LazyLock<Vec<(ConfigKind, String, Value)>> = LazyLock::new(|| {
    let files =
        [include_str!("../../tests/fixture/rules.yaml"), include_str!("../../tests/fixture/sidecar.yaml")];
    let documents = files.into_iter().flat_map(|file| file.split("\n---"));
    let object = |document| {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (ConfigKind::from_name(&text(&object["kind"])).unwrap(), text(&object["metadata"]["name"]), object["spec"].clone())
    };
    documents.map(object).collect()
});

/// Services and workloads that the objects are about.
static MESH: LazyLock<fixture::Mesh> = LazyLock::new(|| {
    let mut yaml = String::new();
    for i in 0..10 {
        write!(
            yaml,
            "\n---\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{selector: {{app: s{i}}}, ports: [{{name: http, port: 80}}, \
             {{name: tcp, port: 81}}, {{name: tls, port: 443}}]}}\n---\nkind: Pod\nmetadata: {{name: s{i}, labels: {{app: s{i}}}}}"
        )
        .unwrap();
    }
    fixture::Mesh::yaml(&yaml)
});

static PROXIES: LazyLock<[Proxy; 3]> = LazyLock::new(|| {
    let proxy = |kind, label: &str, metadata: &str| {
        let id = format!("{kind}~10.0.9.1~client.default~default.svc.cluster.local");
        fixture::introduced(
            &id,
            &format!("{{\"LABELS\": {{{label}}}, \"NAMESPACE\": \"default\"{metadata}}}"),
            "",
        )
    };
    [
        proxy("sidecar", "\"app\": \"client\"", ""),
        proxy("sidecar", "\"app\": \"client\"", ", \"INTERCEPTION_MODE\": \"NONE\""),
        proxy("router", "\"istio\": \"ingressgateway\"", ""),
    ]
});

/// Sequence of bytes.
struct Bytes<'a>(&'a [u8]);

/// Patches in the mesh.
#[derive(Clone, Copy, PartialEq)]
enum Patches {
    AsWritten,
    Changed,
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let mut objects = OBJECTS.clone();
    let mut patches = Patches::AsWritten;
    while let Some(which) = bytes.next() {
        let index = usize::from(which) % objects.len();
        let donor = OBJECTS[usize::from(bytes.next().unwrap_or_default()) % OBJECTS.len()].2.clone();
        if objects[index].0 == ConfigKind::EnvoyFilter {
            patches = Patches::Changed;
        }
        change(&mut objects[index].2, &donor, &mut bytes);
    }
    let (mut world, before) = MESH.world();
    for (age, (kind, name, spec)) in (0..).zip(&objects) {
        let Ok(read) = ConfigSpec::read(*kind, spec) else { continue };
        let meta = ConfigMeta {
            namespace: "default".into(),
            name: name.as_str().into(),
            labels: [].into(),
            annotations: [].into(),
            created: age,
        };
        let object = ConfigObject { meta, spec: read.value };
        if validate::config(&object).iter().all(|finding| finding.severity == Severity::Warning) {
            let change = SourceEvent::Change(Change::Config(Arc::new(object)));
            drop(world.apply(&SourceId("test".into()), change));
        }
    }
    told(&before.next(&mut world), patches);
});

/// Generates all resources of each proxy, and simulates calls.
fn told(push: &PushContext, patches: Patches) {
    for proxy in &*PROXIES {
        let caller = Client::new(push, proxy.clone()).unwrap();
        let faults = caller.told.faults();
        assert!(faults.is_empty() || patches == Patches::Changed, "{}: {faults:#?}", proxy.id);
        for line in ["http://s0/a", "http://s1/", "tcp://s8:81", "tls://s8:443 --sni a.sni.example.com"] {
            if proxy.node_type() == NodeType::Sidecar {
                drop(caller.ask(line).map(|trace| trace.to_string()));
            }
        }
    }
}

/// Changes a value somewhere inside.
fn change(value: &mut Value, donor: &Value, bytes: &mut Bytes<'_>) {
    let Some(step) = bytes.next() else { return };
    // One in four nested values is changed itself.
    let inside = step % 4 != 0;
    match value {
        Value::Object(map) if inside && !map.is_empty() => {
            let at = usize::from(step / 4) % map.len();
            if let Some((_, value)) = map.iter_mut().nth(at) {
                change(value, donor, bytes);
            }
        }
        Value::Array(list) if inside && !list.is_empty() => {
            let at = usize::from(step / 4) % list.len();
            change(&mut list[at], donor, bytes);
        }
        Value::Array(list) if step % 8 == 0 => list.extend(list.first().cloned()),
        _ => *value = another(value, donor, bytes),
    }
}

/// Returns a value to replace another.
fn another(value: &Value, donor: &Value, bytes: &mut Bytes<'_>) -> Value {
    const WORDS: [&str; 20] = [
        "",
        "*",
        ".",
        "~",
        "a",
        "s0",
        "s9",
        "*.com",
        "-",
        "a b",
        "é",
        "\u{0}",
        "unix:///a",
        "10.0.0.0/8",
        "::",
        "0",
        "/",
        "(",
        "%",
        "1s",
    ];
    let choice = bytes.next().unwrap_or_default();
    let number = bytes.next().unwrap_or_default();
    match choice % 12 {
        0 => Value::Null,
        1 => json!(number),
        2 => json!(u32::MAX),
        3 => json!(i64::MIN),
        4 => json!(u16::MAX),
        5 => json!(WORDS[usize::from(number) % WORDS.len()]),
        6 => json!("a".repeat(usize::from(number) * 8)),
        7 => json!(number % 2 == 0),
        8 => json!([value]),
        9 => json!(f64::from(number) / 7.0),
        // A value of the same kind from elsewhere.
        10 => within(donor, usize::from(number)).clone(),
        _ => value.as_str().map_or_else(|| json!({}), |text| json!(format!("{text}{}", char::from(number)))),
    }
}

/// Returns a nested value.
fn within(value: &Value, way: usize) -> &Value {
    let inside: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => return value,
    };
    if inside.is_empty() || way == 0 { value } else { within(inside[way % inside.len()], way / 3) }
}

// === impl Bytes ===

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}
