//! What counts as another desired state, and what is refused.

use super::*;

/// Variables of a pod whose bootstrap is the user's own, with an overlay.
const OWN: [(&str, &str); 2] =
    [("ISTIO_BOOTSTRAP", "own.yaml"), ("ISTIO_BOOTSTRAP_OVERRIDE", "overlay.yaml")];
const OWN_BOOTSTRAP: &str =
    "static_resources: {clusters: [{name: c, x: {trusted_ca: {filename: root.pem}}}]}";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Same,
    Another,
}

/// Whether a change makes another desired state; it must be the same one again after a second reading.
fn check(pod: &Pod, what: &str, change: impl FnOnce(&Pod), expected: Is) {
    let before = pod.read(None).unwrap();
    change(pod);
    let after = pod.read(Some(&before)).unwrap_or_else(|faults| panic!("{what}: {faults:?}"));
    let is = if after.hash == before.hash { Is::Same } else { Is::Another };
    assert_eq!(is, expected, "{what}");
    assert_eq!(pod.read(Some(&after)).unwrap().hash, after.hash, "{what}, again");
}

#[test]
fn whatever_a_new_envoy_would_do_differently_is_another_state() {
    let pod = &Pod::new(&[]);
    let annotations = "etc/istio/pod/annotations";
    check(pod, "nothing", |_| {}, Is::Same);
    check(pod, "an empty mesh says what a missing one says", |pod| pod.write(MESH, ""), Is::Same);
    check(pod, "mesh", |pod| pod.write(MESH, &mesh(2)), Is::Another);
    check(pod, "the same mesh", |pod| pod.write(MESH, &mesh(2)), Is::Same);
    check(pod, "a comment", |pod| pod.write(MESH, &(mesh(2) + "# two\n")), Is::Same);
    check(pod, "annotations", |pod| pod.write(annotations, "a=\"1\"\n"), Is::Another);
    check(pod, "no annotations any more", |pod| pod.write(annotations, ""), Is::Another);
    check(pod, "labels", |pod| pod.write("etc/istio/pod/labels", "app=\"a\"\n"), Is::Another);
}

#[test]
fn files_that_envoy_reads_once_count_with_their_content() {
    let pod = &Pod::new(&OWN);
    pod.write("own.yaml", OWN_BOOTSTRAP);
    pod.write("overlay.yaml", "{}");
    check(pod, "an empty root is not a missing one", |pod| pod.write("root.pem", ""), Is::Another);
    check(pod, "root", |pod| pod.write("root.pem", "root"), Is::Another);
    check(pod, "the same root in another file", |pod| pod.put("root.pem", "root"), Is::Same);
    check(pod, "a root that is gone", |pod| fs::remove_file(pod.path("root.pem")).unwrap(), Is::Another);
    check(pod, "overlay", |pod| pod.write("overlay.yaml", "{admin: {}}"), Is::Another);
    check(pod, "own bootstrap", |pod| pod.write("own.yaml", "{admin: {}}"), Is::Another);
    check(pod, "a root nobody refers to", |pod| pod.write("root.pem", "other"), Is::Same);
}

#[test]
fn certificates_towards_the_control_plane_count() {
    let pod = &Pod::new(&[]);
    pod.write("etc/istio/pod/annotations", "sidecar.istio.io/discoveryAddress=\"istiod:15012\"\n");
    for file in ["cert-chain", "key", "root-cert"] {
        pod.write(&format!("etc/certs/{file}.pem"), "one");
    }
    for file in ["cert-chain", "key", "root-cert"] {
        check(pod, file, |pod| pod.write(&format!("etc/certs/{file}.pem"), "two"), Is::Another);
    }
}

#[test]
fn the_binary_counts_by_what_it_is() {
    let pod = &Pod::new(&[]);
    check(pod, "replaced", |pod| pod.put("bin/envoy", "two"), Is::Another);
    check(pod, "written over", |pod| pod.write("bin/envoy", "other"), Is::Another);
    let mut known = Arc::unwrap_or_clone(pod.read(None).unwrap());
    known.program.learn(&pod.path("bin/envoy"));
    pod.put("bin/envoy", "other");
    assert_eq!(pod.read(Some(&known)).unwrap().hash, known.hash, "its own copy");
}

#[test]
fn what_is_refused_names_file_and_field_and_where_it_is_mended() {
    let pod = Pod::new(&OWN);
    pod.write("overlay.yaml", "{a: ");
    pod.write(MESH, "defaultConfig: {concurrency: 1}");
    pod.write("etc/istio/pod/annotations", "proxy.istio.io/config=\"statusPort: many\"\n");
    let reading = pod.given.read(None);
    let lines: Vec<_> = reading.outcome.unwrap_err().iter().map(ToString::to_string).collect();
    for (place, what) in
        [("proxy.istio.io/config", "statusPort"), ("own.yaml", "no such file"), ("overlay.yaml", "")]
    {
        assert!(lines.iter().any(|line| line.contains(place) && line.contains(what)), "{place}: {lines:?}");
    }
    let sources: Vec<_> = reading.sources.paths().collect();
    for file in [MESH, "own.yaml", "overlay.yaml", "etc/istio/pod/annotations", "etc/istio/pod/labels"] {
        assert!(sources.contains(&pod.path(file).as_path()), "{file}: {sources:?}");
    }
}

#[test]
fn a_binary_that_is_not_there_is_a_source_like_any_other() {
    let pod = Pod::new(&[]);
    fs::remove_file(pod.path("bin/envoy")).unwrap();
    let reading = pod.given.read(None);
    assert_eq!(reading.outcome.unwrap_err().exit_code(), 127);
    assert_eq!(reading.sources.sight(&pod.path("bin/envoy")), Some(Sight::Absent));
}

#[test]
fn a_file_that_was_emptied_is_a_write_under_way() {
    let pod = Pod::new(&OWN);
    pod.write("own.yaml", OWN_BOOTSTRAP);
    for file in [MESH, "overlay.yaml", "root.pem"] {
        pod.write(file, "{}");
    }
    let before = pod.read(None).unwrap();
    for file in [MESH, "own.yaml", "overlay.yaml", "root.pem"] {
        let text = fs::read_to_string(pod.path(file)).unwrap();
        pod.write(file, "");
        let faults = pod.read(Some(&before)).unwrap_err();
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.contains(file) && line.contains("is empty")), "{lines:?}");
        pod.write(file, &text);
        assert_eq!(pod.read(Some(&before)).unwrap().hash, before.hash, "{file}");
    }
}

#[test]
fn a_hash_is_short() {
    let hash = Pod::new(&[]).read(None).unwrap().hash.to_string();
    assert!(hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()), "{hash}");
}
