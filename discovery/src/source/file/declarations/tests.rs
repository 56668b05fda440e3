use super::*;

fn service(name: &str, port: u32) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: {port}}}]}}}}\n"
    )
}

fn documents(documents: &[String]) -> String {
    documents.join("---\n")
}

#[derive(Default)]
struct DeclaredObjects {
    declarations: Declarations,
    store: ObjectStore,
}

impl DeclaredObjects {
    fn write(&mut self, path: &str, text: &str) -> String {
        self.apply_changes(vec![FileContentChange::Content(path.into(), text.into())])
    }

    fn apply_changes(&mut self, changes: Vec<FileContentChange>) -> String {
        let (changes, _) = self.declarations.apply(changes, &mut self.store);
        let changes = changes.iter().map(|change| {
            let object = match change {
                ObjectChange::Added(Object::Service(service))
                | ObjectChange::Updated(Object::Service(service)) => {
                    format!("{}:{}", service.metadata.name, service.spec.ports[0].port)
                }
                ObjectChange::Added(object) | ObjectChange::Updated(object) => object.key().to_string(),
                ObjectChange::Deleted(key) => key.name.name.to_string(),
            };
            format!("{} {object}", change.action().as_str())
        });
        changes.collect::<Vec<_>>().join(", ")
    }

    fn problem_texts(&self) -> Vec<String> {
        self.declarations.problems().map(ToString::to_string).collect()
    }
}

#[test]
fn objects_are_added_updated_and_deleted_with_their_documents() {
    let mut store = DeclaredObjects::default();
    assert_eq!(store.write("f", &documents(&[service("a", 1), service("b", 1)])), "add a:1, add b:1");
    assert_eq!(store.write("f", &documents(&[service("b", 1), service("a", 2)])), "update a:2");
    assert_eq!(store.write("f", &service("b", 1)), "delete a");
    assert_eq!(store.write("f", "# nothing left on purpose\n"), "delete b");
    assert_eq!(store.write("f", &service("c", 1)), "add c:1");
    assert_eq!(store.apply_changes(vec![FileContentChange::Removed("f".into())]), "delete c");
    assert_eq!((store.store.len(), store.problem_texts().len()), (0, 0));
}

#[test]
fn invalid_document_keeps_the_previous_version_of_its_object() {
    let mut store = DeclaredObjects::default();
    store.write("f", &documents(&[service("a", 1), service("b", 1), service("c", 1)]));
    // `b` is invalid, `c` was removed on purpose.
    assert_eq!(store.write("f", &documents(&[service("a", 2), service("b", 70000)])), "update a:2, delete c");
    assert_eq!(
        store.problem_texts(),
        ["f:2: document 2: Service default/b: spec.ports[0].port: 70000 is no port: 1 to 65535"]
    );
    // The same error, some lines below.
    store.write("f", &documents(&["# edited\n".into(), service("a", 2), service("b", 70000)]));
    assert_eq!(store.problem_texts().len(), 1);
    assert!(store.problem_texts()[0].starts_with("f:4: document 2:"), "{:?}", store.problem_texts());
    assert_eq!(store.write("f", &documents(&[service("a", 2), service("b", 2)])), "update b:2");
    assert_eq!(store.problem_texts(), [""; 0]);
}

#[test]
fn unidentified_invalid_document_keeps_every_undeclared_object() {
    for broken in ["a: [1", "kind: Serv", "apiVersion: v1\nkind: Serv", "just text", "a: 1\na: 2"] {
        let mut store = DeclaredObjects::default();
        store.write("f", &documents(&[service("a", 1), service("b", 1)]));
        assert_eq!(store.write("f", &documents(&[service("a", 2), broken.into()])), "update a:2", "{broken}");
        assert_eq!(store.problem_texts().len(), 1, "{broken}");
        assert_eq!(store.write("f", &service("a", 2)), "delete b", "{broken}");
    }
}

#[test]
fn truncated_file_deletes_no_object() {
    let whole = documents(&[service("a", 1), service("b", 1), service("c", 1)]);
    for length in 0..whole.len() {
        let text = &whole[..length];
        // A file truncated between documents is a valid file; only the stability rule protects from that.
        if text.trim_end().ends_with("}}") || text.trim_end().ends_with("---") {
            continue;
        }
        let mut store = DeclaredObjects::default();
        store.write("f", &whole);
        assert_eq!(store.write("f", text), "", "{text:?}");
    }
}

#[test]
fn empty_or_unreadable_file_deletes_no_object() {
    let mut store = DeclaredObjects::default();
    store.write("f", &service("a", 1));
    for change in [
        FileContentChange::Content("f".into(), b" \n".to_vec()),
        FileContentChange::Content("f".into(), b"a: \xff".to_vec()),
        FileContentChange::Unreadable("f".into(), "permission denied".into()),
    ] {
        assert_eq!(store.apply_changes(vec![change.clone()]), "", "{change:?}");
        assert_eq!(store.problem_texts().len(), 1, "{change:?}");
    }
    assert_eq!(store.write("f", &service("a", 1)), "");
    assert_eq!(store.problem_texts(), [""; 0]);
    // A file that never declared anything may be empty.
    assert_eq!(store.write("g", ""), "");
    assert_eq!(store.problem_texts(), [""; 0]);
}

#[test]
fn first_file_stays_active_for_an_object_declared_twice() {
    let mut store = DeclaredObjects::default();
    store.write("b", &service("x", 1));
    assert_eq!(store.write("a", &service("x", 2)), "");
    assert_eq!(store.problem_texts(), ["a:1: document 1: Service default/x: already declared in b"]);
    assert_eq!(store.write("b", &service("x", 3)), "update x:3");
    assert_eq!(store.apply_changes(vec![FileContentChange::Removed("b".into())]), "update x:2");
    assert_eq!(store.problem_texts(), [""; 0]);
    // In one file as well.
    store.write("a", &documents(&[service("x", 9), service("x", 2)]));
    assert_eq!(store.problem_texts(), ["a:2: document 2: Service default/x: already declared in document 1"]);
    assert_eq!(store.write("a", &service("x", 9)), "update x:9");
}

#[test]
fn object_that_moves_to_another_file_is_never_deleted() {
    let mut store = DeclaredObjects::default();
    store.write("a", &service("x", 1));
    let changes = vec![
        FileContentChange::Content("b".into(), service("x", 1).into()),
        FileContentChange::Missing("a".into()),
    ];
    assert_eq!(store.apply_changes(changes), "");
    assert_eq!(store.problem_texts(), [""; 0]);
    assert_eq!(store.apply_changes(vec![FileContentChange::Removed("a".into())]), "");

    // The old file is missing first, and no other file declares the object yet.
    assert_eq!(store.apply_changes(vec![FileContentChange::Missing("b".into())]), "");
    assert_eq!(store.write("c", &service("x", 2)), "update x:2");
    // It reappears too late.
    store.write("b", &service("x", 1));
    assert_eq!(store.problem_texts().len(), 1);
}

#[test]
fn ignored_kinds_are_reported_once() {
    let mut store = DeclaredObjects::default();
    let text = "{apiVersion: v1, kind: Secret}\n---\n{apiVersion: x/v1, kind: Z}\n---\n{apiVersion: v1, kind: Secret}";
    let content = |file: &str| vec![FileContentChange::Content(file.into(), text.into())];
    let (changes, ignored) = store.declarations.apply(content("f"), &mut store.store);
    assert!(changes.is_empty());
    assert_eq!(
        ignored,
        [
            IgnoredKind::Unsupported("v1".into(), "Secret".into()),
            IgnoredKind::Unknown("x/v1".into(), "Z".into())
        ]
    );
    let (_, ignored) = store.declarations.apply(content("g"), &mut store.store);
    assert_eq!((ignored.len(), store.problem_texts().len()), (0, 0));
}

#[test]
fn items_of_a_list_are_separate_objects() {
    let mut store = DeclaredObjects::default();
    let list = |port: u32| {
        format!("{{apiVersion: v1, kind: List, items: [{}, {}]}}", service("a", port), service("b", 1))
    };
    assert_eq!(store.write("f", &list(1)), "add a:1, add b:1");
    assert_eq!(store.write("f", &list(0)), "");
    assert!(
        store.problem_texts()[0]
            .starts_with("f:1: document 1: items[0]: Service default/a: spec.ports[0].port:")
    );
}

#[test]
fn unsupported_and_unknown_fields_are_warnings() {
    let gateway = |spec: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {spec}}}\n"
        )
    };
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], defaultEndpoint: x}";
    let mut store = DeclaredObjects::default();
    assert_eq!(
        store.write("f", &gateway(&format!("{{servers: [{server}], server: 1}}"))),
        "add Gateway default/g"
    );
    assert_eq!(
        store.problem_texts(),
        [
            "f:1: warning: document 1: Gateway default/g: spec.servers[0].defaultEndpoint: is not supported yet and has no effect",
            "f:1: warning: document 1: Gateway default/g: spec.server: unknown field, has no effect",
        ]
    );
    // An error keeps the previous version.
    assert_eq!(store.write("f", &gateway("{servers: []}")), "");
    assert_eq!(
        store.problem_texts(),
        ["f:1: document 1: Gateway default/g: spec.servers: needs at least one server"]
    );
    assert_eq!(store.write("f", "# gone\n"), "delete g");
}
