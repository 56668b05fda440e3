//! Changes of files that lead to another desired state, and those that are rejected.

use super::*;

/// Environment of a pod with a custom bootstrap and an overlay.
const CUSTOM: [(&str, &str); 2] =
    [("ISTIO_BOOTSTRAP", "own.yaml"), ("ISTIO_BOOTSTRAP_OVERRIDE", "overlay.yaml")];
const CUSTOM_BOOTSTRAP: &str =
    "static_resources: {clusters: [{name: c, x: {trusted_ca: {filename: root.pem}}}]}";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Same,
    Different,
}

/// Checks whether a change leads to another desired state. A second load must lead to the same one.
fn check(pod: &PodFiles, case: &str, change: impl FnOnce(&PodFiles), expected: Outcome) {
    let before = pod.load(None).unwrap();
    change(pod);
    let after = pod.load(Some(&before)).unwrap_or_else(|faults| panic!("{case}: {faults:?}"));
    let outcome = if after.hash == before.hash { Outcome::Same } else { Outcome::Different };
    assert_eq!(outcome, expected, "{case}");
    assert_eq!(pod.load(Some(&after)).unwrap().hash, after.hash, "{case}, again");
}

#[test]
fn settings_that_a_new_envoy_would_use_change_the_desired_state() {
    let pod = &PodFiles::new(&[]);
    let annotations = "etc/istio/pod/annotations";
    check(pod, "nothing", |_| {}, Outcome::Same);
    check(pod, "an empty mesh file is equal to a missing one", |pod| pod.write(MESH, ""), Outcome::Same);
    check(pod, "mesh", |pod| pod.write(MESH, &mesh(2)), Outcome::Different);
    check(pod, "the same mesh", |pod| pod.write(MESH, &mesh(2)), Outcome::Same);
    check(pod, "a comment", |pod| pod.write(MESH, &(mesh(2) + "# two\n")), Outcome::Same);
    check(pod, "annotations", |pod| pod.write(annotations, "a=\"1\"\n"), Outcome::Different);
    check(pod, "no annotations any more", |pod| pod.write(annotations, ""), Outcome::Different);
    check(pod, "labels", |pod| pod.write("etc/istio/pod/labels", "app=\"a\"\n"), Outcome::Different);
}

#[test]
fn content_of_files_that_envoy_reads_once_is_part_of_the_desired_state() {
    let pod = &PodFiles::new(&CUSTOM);
    pod.write("own.yaml", CUSTOM_BOOTSTRAP);
    pod.write("overlay.yaml", "{}");
    check(pod, "an empty root is not a missing one", |pod| pod.write("root.pem", ""), Outcome::Different);
    check(pod, "root", |pod| pod.write("root.pem", "root"), Outcome::Different);
    check(pod, "the same root in another file", |pod| pod.replace("root.pem", "root"), Outcome::Same);
    check(pod, "a removed root", |pod| fs::remove_file(pod.path("root.pem")).unwrap(), Outcome::Different);
    check(pod, "overlay", |pod| pod.write("overlay.yaml", "{admin: {}}"), Outcome::Different);
    check(pod, "custom bootstrap", |pod| pod.write("own.yaml", "{admin: {}}"), Outcome::Different);
    check(pod, "an unreferenced root", |pod| pod.write("root.pem", "other"), Outcome::Same);
}

#[test]
fn control_plane_certificates_are_part_of_the_desired_state() {
    let pod = &PodFiles::new(&[]);
    pod.write("etc/istio/pod/annotations", "sidecar.istio.io/discoveryAddress=\"istiod:15012\"\n");
    for file in ["cert-chain", "key", "root-cert"] {
        pod.write(&format!("etc/certs/{file}.pem"), "one");
    }
    for file in ["cert-chain", "key", "root-cert"] {
        check(pod, file, |pod| pod.write(&format!("etc/certs/{file}.pem"), "two"), Outcome::Different);
    }
}

#[test]
fn envoy_binary_is_part_of_the_desired_state_by_its_content() {
    let pod = &PodFiles::new(&[]);
    check(pod, "replaced", |pod| pod.replace("bin/envoy", "two"), Outcome::Different);
    check(pod, "written over", |pod| pod.write("bin/envoy", "other"), Outcome::Different);
    let mut before = Arc::unwrap_or_clone(pod.load(None).unwrap());
    before.binary.read_content(&pod.path("bin/envoy"));
    pod.replace("bin/envoy", "other");
    assert_eq!(pod.load(Some(&before)).unwrap().hash, before.hash, "its own copy");
}

#[test]
fn faults_name_file_and_field_and_the_load_has_all_source_files() {
    let pod = PodFiles::new(&CUSTOM);
    pod.write("overlay.yaml", "{a: ");
    pod.write(MESH, "defaultConfig: {concurrency: 1}");
    pod.write("etc/istio/pod/annotations", "proxy.istio.io/config=\"statusPort: many\"\n");
    let load = pod.inputs.load(None);
    let lines: Vec<_> = load.outcome.unwrap_err().iter().map(ToString::to_string).collect();
    for (place, text) in
        [("proxy.istio.io/config", "statusPort"), ("own.yaml", "no such file"), ("overlay.yaml", "")]
    {
        assert!(lines.iter().any(|line| line.contains(place) && line.contains(text)), "{place}: {lines:?}");
    }
    let sources: Vec<_> = load.sources.presence().map(|(path, _)| path).collect();
    for file in [MESH, "own.yaml", "overlay.yaml", "etc/istio/pod/annotations", "etc/istio/pod/labels"] {
        assert!(sources.contains(&pod.path(file).as_path()), "{file}: {sources:?}");
    }
}

#[test]
fn missing_binary_is_a_source_file() {
    let pod = PodFiles::new(&[]);
    fs::remove_file(pod.path("bin/envoy")).unwrap();
    let load = pod.inputs.load(None);
    assert_eq!(load.outcome.unwrap_err().exit_code(), 127);
    assert_eq!(load.sources.state(&pod.path("bin/envoy")), Some(FileState::Absent));
}

#[test]
fn emptied_file_is_rejected_as_a_write_in_progress() {
    let pod = PodFiles::new(&CUSTOM);
    pod.write("own.yaml", CUSTOM_BOOTSTRAP);
    for file in [MESH, "overlay.yaml", "root.pem"] {
        pod.write(file, "{}");
    }
    let before = pod.load(None).unwrap();
    for file in [MESH, "own.yaml", "overlay.yaml", "root.pem"] {
        let text = fs::read_to_string(pod.path(file)).unwrap();
        pod.write(file, "");
        let faults = pod.load(Some(&before)).unwrap_err();
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.contains(file) && line.contains("is empty")), "{lines:?}");
        pod.write(file, &text);
        assert_eq!(pod.load(Some(&before)).unwrap().hash, before.hash, "{file}");
    }
}

#[test]
fn config_hash_has_16_hexadecimal_digits() {
    let hash = PodFiles::new(&[]).load(None).unwrap().hash.to_string();
    assert!(hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()), "{hash}");
}
