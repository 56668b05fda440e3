//! Real files and real events. Every wait has a deadline. The absence of an event is checked in everything that was sent
//! until the event of a later change.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use pilot_core::model::{Change, Endpoint, Hostname, SourceEvent, SourceId};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::source::RegistryKind;

const DEADLINE: Duration = Duration::from_secs(20);

/// Running source, and the state according to the events received.
struct RunningSource {
    directory: TempDir,
    events: mpsc::Receiver<(SourceId, SourceEvent)>,
    status: Arc<SourceStatus>,
    mesh: watch::Sender<Arc<MeshConfig>>,
    task: JoinHandle<anyhow::Result<()>>,
    services: BTreeMap<Hostname, Arc<pilot_core::model::Service>>,
    endpoints: BTreeMap<Hostname, Vec<String>>,
    /// Services that were removed, and those that lost all endpoints.
    losses: Vec<Hostname>,
}

impl RunningSource {
    /// Starts a source on a directory `conf` in a temporary directory, and waits until it has synced.
    async fn start(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("conf")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join("conf").join(name), text).unwrap();
        }
        Self::on(directory).await
    }

    async fn on(directory: TempDir) -> Self {
        let (sender, events) = mpsc::channel(16);
        let status = status();
        let mesh = watch::Sender::default();
        let sender = SourceSender::new(status.clone(), sender);
        let task = tokio::spawn(run(config(&directory.path().join("conf"), &mesh), sender));
        let mut running = Self {
            directory,
            events,
            status,
            mesh,
            task,
            services: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            losses: Vec::new(),
        };
        assert_eq!(running.receive().await, SourceEvent::Resync);
        while running.receive().await != SourceEvent::Synced {}
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("conf").join(name)
    }

    async fn receive(&mut self) -> SourceEvent {
        let (_, event) = timeout(DEADLINE, self.events.recv()).await.expect("an event in time").unwrap();
        match event.clone() {
            SourceEvent::Change(Change::Service(service)) => {
                self.services.insert(service.hostname.clone(), service);
            }
            SourceEvent::Change(Change::ServiceGone(_, host)) => {
                self.losses.extend(self.services.remove(&host).map(|_| host));
            }
            SourceEvent::Change(Change::Endpoints(_, host, list)) => {
                let addresses: Vec<_> = list.iter().map(|at| at.address.to_string()).collect();
                let previous = self.endpoints.insert(host.clone(), addresses);
                if list.is_empty() && previous.is_some_and(|previous| !previous.is_empty()) {
                    self.losses.push(host);
                }
            }
            _ => {}
        }
        event
    }

    /// Receives events until the service has these addresses.
    async fn until(&mut self, service: &str, addresses: &[&str]) {
        let host = Hostname::from(format!("{service}.default.svc.cluster.local"));
        while self.endpoints.get(&host).map(|at| at.iter().map(String::as_str).collect::<Vec<_>>())
            != Some(addresses.to_vec())
        {
            self.receive().await;
        }
    }

    async fn until_removed(&mut self, service: &str) {
        let host = Hostname::from(format!("{service}.default.svc.cluster.local"));
        while self.services.contains_key(&host) {
            self.receive().await;
        }
    }

    /// Waits until there are this many problems.
    async fn until_problems(&self, count: usize) -> Vec<String> {
        let counted = async {
            while self.status.problems().len() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, counted).await.expect("problems in time");
        self.status.problems().iter().map(ToString::to_string).collect()
    }
}

fn status() -> Arc<SourceStatus> {
    Arc::new(SourceStatus::new(RegistryKind::File.source_id()))
}

fn config(directory: &Path, mesh: &watch::Sender<Arc<MeshConfig>>) -> FileSourceConfig {
    FileSourceConfig {
        directory: directory.to_owned(),
        domain_suffix: "cluster.local".into(),
        mesh: mesh.subscribe(),
        cluster_id: "Kubernetes".into(),
        system_namespace: "istio-system".into(),
    }
}

/// Manifests of a service with one address.
fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [{address}]}}]
"
    )
}

fn two_services(address: &str) -> String {
    format!("{}---\n{}", service("a", address), service("b", address))
}

#[tokio::test]
async fn existing_files_are_sent_before_synced() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("conf");
    fs::create_dir_all(conf.join("deep/er")).unwrap();
    fs::create_dir_all(conf.join(".git")).unwrap();
    for (name, text) in [
        ("a.yaml", service("a", "10.0.0.1")),
        ("deep/er/b.yml", service("b", "10.0.0.2")),
        ("c.json", r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"}}"#.into()),
        ("README.md", service("no", "10.0.0.9")),
        (".hidden.yaml", service("no", "10.0.0.9")),
        (".git/x.yaml", service("no", "10.0.0.9")),
        ("bad.yaml", "a: [".into()),
    ] {
        fs::write(conf.join(name), text).unwrap();
    }
    let running = RunningSource::on(directory).await;
    let hosts: Vec<_> =
        running.services.keys().map(|host| host.as_str().split('.').next().unwrap()).collect();
    assert_eq!(hosts, ["a", "b", "c"]);
    assert_eq!(running.status.problems().len(), 1);
    let added: u64 = running.status.events().map(|(_, _, count)| count).sum();
    assert_eq!(added, 5);
}

#[tokio::test]
async fn missing_directory_is_an_error_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, _events) = mpsc::channel(1);
    let sender = SourceSender::new(status(), sender);
    let config = config(&directory.path().join("nowhere"), &watch::Sender::default());
    let error = run(config, sender).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("nowhere") && text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn source_ends_when_the_event_channel_is_closed() {
    let running = RunningSource::start(&[]).await;
    drop(running.events);
    timeout(DEADLINE, running.task).await.expect("the end in time").unwrap().unwrap();
}

#[tokio::test]
async fn status_has_synchronization_objects_rejections_and_errors() {
    let running = RunningSource::start(&[("f.yaml", &service("a", "10.0.0.1")), ("g.yaml", "a: [")]).await;
    let status = running.status.clone();
    let synced = async {
        while !status.is_synced() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, synced).await.expect("synchronization in time");
    let objects: Vec<_> = status.objects().into_iter().map(|(kind, count)| (kind.as_str(), count)).collect();
    assert_eq!(objects, [("Service", 1), ("EndpointSlice", 1)]);
    assert_eq!((status.rejected(), status.last_error()), (1, None));
    assert!(status.last_event().is_some());

    fs::remove_dir_all(running.path("")).unwrap();
    let failed = async {
        while status.last_error().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, failed).await.expect("an error in time");
    assert!(status.last_error().unwrap().message.contains("conf"), "{:?}", status.last_error());
    assert!(!status.objects().is_empty(), "a directory that cannot be listed removes no object");
}

#[tokio::test]
async fn changed_trust_domain_changes_the_identities_of_pods() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {serviceAccountName: sa},
      status: {podIP: 10.0.0.1, phase: Running}}";
    let manifests = format!("{}\n---\n{pod}", service("a", "10.0.0.1"));
    let mut running = RunningSource::start(&[("f.yaml", &manifests)]).await;
    let mesh = MeshConfig { trust_domain: "example.com".to_owned(), ..MeshConfig::default() };
    running.mesh.send_replace(Arc::new(mesh));
    let (mut endpoint, mut workload) = (None, None);
    while endpoint.is_none() || workload.is_none() {
        match running.receive().await {
            SourceEvent::Change(Change::Endpoints(_, _, list)) => {
                endpoint = list.first().map(|Endpoint { service_account, .. }| service_account.clone());
            }
            SourceEvent::Change(Change::Workload(pod)) => workload = Some(pod.service_account.clone()),
            _ => {}
        }
    }
    let identity = Some("spiffe://example.com/ns/default/sa/sa".into());
    assert_eq!((endpoint, workload), (identity.clone(), identity));
}

#[tokio::test]
async fn editor_that_renames_the_old_file_removes_no_service() {
    let mut running = RunningSource::start(&[("f.yaml", &two_services("10.0.0.1"))]).await;
    for round in 2..6 {
        let address = format!("10.0.0.{round}");
        // As vim does it.
        fs::write(running.path("4913"), "").unwrap();
        fs::remove_file(running.path("4913")).unwrap();
        fs::rename(running.path("f.yaml"), running.path("f.yaml~")).unwrap();
        std::thread::sleep(reader::WATCH_SETTINGS.debounce);
        fs::write(running.path("f.yaml"), two_services(&address)).unwrap();
        fs::remove_file(running.path("f.yaml~")).unwrap();
        running.until("a", &[&address]).await;
        running.until("b", &[&address]).await;
    }
    assert_eq!(running.losses, []);
}

#[tokio::test]
async fn symlink_swap_of_a_config_map_changes_all_files() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("conf");
    let version = |name: &str, address: &str| {
        fs::create_dir_all(conf.join(name).join("sub")).unwrap();
        fs::write(conf.join(name).join("a.yaml"), service("a", address)).unwrap();
        fs::write(conf.join(name).join("sub/b.yaml"), service("b", address)).unwrap();
    };
    version("..2026_01", "10.0.0.1");
    symlink("..2026_01", conf.join("..data")).unwrap();
    symlink("..data/a.yaml", conf.join("a.yaml")).unwrap();
    symlink("..data/sub", conf.join("sub")).unwrap();
    let mut running = RunningSource::on(directory).await;
    running.until("a", &["10.0.0.1"]).await;
    running.until("b", &["10.0.0.1"]).await;

    for round in 2..5 {
        let address = format!("10.0.0.{round}");
        let name = format!("..2026_0{round}");
        version(&name, &address);
        symlink(&name, conf.join("..data_tmp")).unwrap();
        fs::rename(conf.join("..data_tmp"), conf.join("..data")).unwrap();
        fs::remove_dir_all(conf.join(format!("..2026_0{}", round - 1))).unwrap();
        running.until("a", &[&address]).await;
        running.until("b", &[&address]).await;
    }
    assert_eq!((running.losses, running.status.problems()), (vec![], vec![]));
}

#[tokio::test]
async fn slow_write_is_not_read_before_it_is_closed() {
    let mut running =
        RunningSource::start(&[("f.yaml", &two_services("10.0.0.1")), ("other.yaml", "")]).await;
    let path = running.path("f.yaml");
    let text = two_services("10.0.0.2");
    let status = running.status.clone();
    let writer = std::thread::spawn(move || {
        let mut file = OpenOptions::new().write(true).truncate(true).open(path).unwrap();
        // Each part is on disk for longer than the debounce period.
        for part in text.as_bytes().chunks(text.len() / 8) {
            file.write_all(part).unwrap();
            std::thread::sleep(reader::WATCH_SETTINGS.debounce * 2);
            assert_eq!(status.problems(), [], "a partial file was read");
        }
    });
    running.until("a", &["10.0.0.2"]).await;
    running.until("b", &["10.0.0.2"]).await;
    writer.join().unwrap();
    assert_eq!(running.losses, []);
}

#[tokio::test]
async fn truncated_file_removes_no_service() {
    let whole = two_services("10.0.0.1");
    let mut running = RunningSource::start(&[("f.yaml", &whole)]).await;
    for length in [0, whole.len() / 3, whole.len() * 2 / 3] {
        fs::write(running.path("f.yaml"), &whole[..length]).unwrap();
        running.until_problems(1).await;
        fs::write(running.path("f.yaml"), &whole).unwrap();
        running.until_problems(0).await;
    }
    fs::write(running.path("f.yaml"), two_services("10.0.0.2")).unwrap();
    running.until("b", &["10.0.0.2"]).await;
    assert_eq!(running.losses, []);
}

#[tokio::test]
async fn invalid_document_is_a_problem_and_keeps_its_object() {
    let mut running = RunningSource::start(&[("f.yaml", &two_services("10.0.0.1"))]).await;
    fs::write(running.path("f.yaml"), two_services("10.0.0.1").replacen("10.0.0.1", "10.0.0", 1)).unwrap();
    let problems = running.until_problems(1).await;
    let expected = "EndpointSlice default/a-1: endpoints[0].addresses[0]: \"10.0.0\" is no IPv4 address";
    assert!(problems[0].ends_with(expected) && problems[0].contains("f.yaml:5: document 2:"), "{problems:?}");
    // Another change; the problem stays.
    fs::write(running.path("g.yaml"), service("c", "10.0.0.3")).unwrap();
    running.until("c", &["10.0.0.3"]).await;
    assert_eq!(running.status.problems().len(), 1);
    fs::write(running.path("f.yaml"), two_services("10.0.0.2")).unwrap();
    running.until("a", &["10.0.0.2"]).await;
    assert_eq!((running.losses, running.status.problems()), (vec![], vec![]));
}

#[tokio::test]
async fn deleted_file_removes_its_objects() {
    let mut running =
        RunningSource::start(&[("a.yaml", &service("a", "10.0.0.1")), ("b.yaml", &service("b", "10.0.0.1"))])
            .await;
    fs::remove_file(running.path("a.yaml")).unwrap();
    running.until_removed("a").await;
    assert!(!running.losses.contains(&"b.default.svc.cluster.local".into()));
}

#[tokio::test]
async fn object_that_moves_to_another_file_is_never_removed() {
    let mut running = RunningSource::start(&[("a.yaml", &service("a", "10.0.0.1"))]).await;
    fs::rename(running.path("a.yaml"), running.path("z.yaml")).unwrap();
    fs::create_dir(running.path("new")).unwrap();
    fs::rename(running.path("z.yaml"), running.path("new/a.yaml")).unwrap();
    fs::write(running.path("new/a.yaml"), service("a", "10.0.0.2")).unwrap();
    running.until("a", &["10.0.0.2"]).await;
    assert_eq!((running.losses, running.status.problems()), (vec![], vec![]));
}

#[tokio::test]
async fn replaced_directory_is_watched() {
    let mut running = RunningSource::start(&[("f.yaml", &two_services("10.0.0.1"))]).await;
    let conf = running.path("");
    for round in 2..5 {
        let address = format!("10.0.0.{round}");
        fs::remove_dir_all(&conf).unwrap();
        let problems = running.until_problems(1).await;
        assert!(problems[0].contains("No such file"), "{problems:?}");
        fs::create_dir(&conf).unwrap();
        fs::write(running.path("f.yaml"), two_services(&address)).unwrap();
        running.until("a", &[&address]).await;
        running.until("b", &[&address]).await;
        running.until_problems(0).await;
    }
    assert_eq!(running.losses, []);
    // Objects that the new directory does not contain are removed.
    fs::rename(&conf, running.directory.path().join("away")).unwrap();
    fs::create_dir(&conf).unwrap();
    fs::write(running.path("f.yaml"), service("a", "10.0.0.9")).unwrap();
    running.until("a", &["10.0.0.9"]).await;
    running.until_removed("b").await;
}
