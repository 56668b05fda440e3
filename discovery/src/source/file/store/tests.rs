use super::*;

fn service(name: &str, port: u32) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: {port}}}]}}}}\n"
    )
}

fn documents(documents: &[String]) -> String {
    documents.join("---\n")
}

impl Store {
    fn write(&mut self, path: &str, text: &str) -> String {
        self.see(vec![Sighting::Content(path.into(), text.into())])
    }

    fn see(&mut self, sightings: Vec<Sighting>) -> String {
        let (events, _) = self.take(sightings);
        let events = events.iter().map(|(fate, event)| {
            let what = match event {
                ObjectEvent::Upsert(object) => match &**object {
                    Object::Service(service) => {
                        format!("{}:{}", service.metadata.name, service.spec.ports[0].port)
                    }
                    object => object.key().to_string(),
                },
                ObjectEvent::Delete(key) => key.name.name.to_string(),
            };
            format!("{} {what}", fate.as_str())
        });
        events.collect::<Vec<_>>().join(", ")
    }

    fn complaints(&self) -> Vec<String> {
        self.problems().map(ToString::to_string).collect()
    }
}

#[test]
fn objects_come_change_and_go_with_their_documents() {
    let mut store = Store::default();
    assert_eq!(store.write("f", &documents(&[service("a", 1), service("b", 1)])), "add a:1, add b:1");
    assert_eq!(store.write("f", &documents(&[service("b", 1), service("a", 2)])), "update a:2");
    assert_eq!(store.write("f", &service("b", 1)), "delete a");
    assert_eq!(store.write("f", "# nothing left on purpose\n"), "delete b");
    assert_eq!(store.write("f", &service("c", 1)), "add c:1");
    assert_eq!(store.see(vec![Sighting::Gone("f".into())]), "delete c");
    assert_eq!((store.len(), store.complaints().len()), (0, 0));
}

#[test]
fn a_bad_document_keeps_what_its_object_was() {
    let mut store = Store::default();
    store.write("f", &documents(&[service("a", 1), service("b", 1), service("c", 1)]));
    // `b` is bad, `c` was taken out on purpose.
    assert_eq!(store.write("f", &documents(&[service("a", 2), service("b", 70000)])), "update a:2, delete c");
    assert_eq!(
        store.complaints(),
        ["f:2: document 2: Service default/b: spec.ports[0].port: 70000 is no port: 1 to 65535"]
    );
    // The same mistake, some lines below.
    store.write("f", &documents(&["# edited\n".into(), service("a", 2), service("b", 70000)]));
    assert_eq!(store.complaints().len(), 1);
    assert!(store.complaints()[0].starts_with("f:4: document 2:"), "{:?}", store.complaints());
    assert_eq!(store.write("f", &documents(&[service("a", 2), service("b", 2)])), "update b:2");
    assert_eq!(store.complaints(), [""; 0]);
}

#[test]
fn a_document_of_nobody_keeps_everything_that_is_missing() {
    for broken in ["a: [1", "kind: Serv", "apiVersion: v1\nkind: Serv", "just text", "a: 1\na: 2"] {
        let mut store = Store::default();
        store.write("f", &documents(&[service("a", 1), service("b", 1)]));
        assert_eq!(store.write("f", &documents(&[service("a", 2), broken.into()])), "update a:2", "{broken}");
        assert_eq!(store.complaints().len(), 1, "{broken}");
        assert_eq!(store.write("f", &service("a", 2)), "delete b", "{broken}");
    }
}

#[test]
fn every_beginning_of_a_file_loses_nothing_that_the_whole_has() {
    let whole = documents(&[service("a", 1), service("b", 1), service("c", 1)]);
    for length in 0..whole.len() {
        let text = &whole[..length];
        // A file cut between documents is a whole file; only the settling protects from that.
        if text.trim_end().ends_with("}}") || text.trim_end().ends_with("---") {
            continue;
        }
        let mut store = Store::default();
        store.write("f", &whole);
        assert_eq!(store.write("f", text), "", "{text:?}");
    }
}

#[test]
fn an_empty_or_unreadable_file_is_not_a_wish_to_delete() {
    let mut store = Store::default();
    store.write("f", &service("a", 1));
    for sighting in [
        Sighting::Content("f".into(), b" \n".to_vec()),
        Sighting::Content("f".into(), b"a: \xff".to_vec()),
        Sighting::Unreadable("f".into(), "permission denied".into()),
    ] {
        assert_eq!(store.see(vec![sighting.clone()]), "", "{sighting:?}");
        assert_eq!(store.complaints().len(), 1, "{sighting:?}");
    }
    assert_eq!(store.write("f", &service("a", 1)), "");
    assert_eq!(store.complaints(), [""; 0]);
    // One that never said anything may be empty.
    assert_eq!(store.write("g", ""), "");
    assert_eq!(store.complaints(), [""; 0]);
}

#[test]
fn who_was_first_keeps_an_object_that_two_declare() {
    let mut store = Store::default();
    store.write("b", &service("x", 1));
    assert_eq!(store.write("a", &service("x", 2)), "");
    assert_eq!(
        store.complaints(),
        ["a:1: document 1: Service default/x: is declared in b, which was there first"]
    );
    assert_eq!(store.write("b", &service("x", 3)), "update x:3");
    assert_eq!(store.see(vec![Sighting::Gone("b".into())]), "update x:2");
    assert_eq!(store.complaints(), [""; 0]);
    // In one file likewise.
    store.write("a", &documents(&[service("x", 9), service("x", 2)]));
    assert_eq!(store.complaints(), ["a:2: document 2: Service default/x: is declared in document 1 before"]);
    assert_eq!(store.write("a", &service("x", 9)), "update x:9");
}

#[test]
fn an_object_that_moves_is_there_all_the_time() {
    let mut store = Store::default();
    store.write("a", &service("x", 1));
    let moved = vec![Sighting::Content("b".into(), service("x", 1).into()), Sighting::Vanishing("a".into())];
    assert_eq!(store.see(moved), "");
    assert_eq!(store.complaints(), [""; 0]);
    assert_eq!(store.see(vec![Sighting::Gone("a".into())]), "");

    // The old file went first, and nothing has taken its place yet.
    assert_eq!(store.see(vec![Sighting::Vanishing("b".into())]), "");
    assert_eq!(store.write("c", &service("x", 2)), "update x:2");
    // It comes back after all: too late.
    store.write("b", &service("x", 1));
    assert_eq!(store.complaints().len(), 1);
}

#[test]
fn kinds_that_are_not_read_are_met_once() {
    let mut store = Store::default();
    let text = "{apiVersion: v1, kind: Secret}\n---\n{apiVersion: x/v1, kind: Z}\n---\n{apiVersion: v1, kind: Secret}";
    let (events, met) = store.take(vec![Sighting::Content("f".into(), text.into())]);
    assert!(events.is_empty());
    assert_eq!(
        met,
        [Foreign::NotRead("v1".into(), "Secret".into()), Foreign::Unknown("x/v1".into(), "Z".into())]
    );
    let (_, met) = store.take(vec![Sighting::Content("g".into(), text.into())]);
    assert_eq!((met.len(), store.complaints().len()), (0, 0));
}

#[test]
fn items_of_a_list_are_objects_of_their_own() {
    let mut store = Store::default();
    let list = |port: u32| {
        format!("{{apiVersion: v1, kind: List, items: [{}, {}]}}", service("a", port), service("b", 1))
    };
    assert_eq!(store.write("f", &list(1)), "add a:1, add b:1");
    assert_eq!(store.write("f", &list(0)), "");
    assert!(
        store.complaints()[0]
            .starts_with("f:1: document 1: items[0]: Service default/a: spec.ports[0].port:")
    );
}

#[test]
fn what_has_no_effect_is_a_warning_and_stops_nobody() {
    let gateway = |spec: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {spec}}}\n"
        )
    };
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], defaultEndpoint: x}";
    let mut store = Store::default();
    assert_eq!(
        store.write("f", &gateway(&format!("{{servers: [{server}], server: 1}}"))),
        "add Gateway default/g"
    );
    assert_eq!(
        store.complaints(),
        [
            "f:1: warning: document 1: Gateway default/g: spec.servers[0].defaultEndpoint: is not supported yet and has no effect",
            "f:1: warning: document 1: Gateway default/g: spec.server: is no field of this kind and has no effect",
        ]
    );
    // A mistake leaves what was there.
    assert_eq!(store.write("f", &gateway("{servers: []}")), "");
    assert_eq!(
        store.complaints(),
        ["f:1: document 1: Gateway default/g: spec.servers: needs at least one server"]
    );
    assert_eq!(store.write("f", "# gone\n"), "delete g");
}
