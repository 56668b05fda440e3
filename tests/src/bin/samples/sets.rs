//! Sets of files of a sample that are applied together, as its documentation says.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Folders of the samples.
pub(crate) const SAMPLES: [&str; 6] = ["bookinfo", "httpbin", "helloworld", "sleep", "curl", "tcp-echo"];

/// Kinds that the control plane reads, besides those of Istio's API groups.
const READ: [&str; 6] = ["Service", "Endpoints", "EndpointSlice", "Pod", "Namespace", "Node"];

/// A sample.
pub(crate) struct Sample {
    /// Sets to run, in order.
    pub(crate) sets: Vec<Set>,
    /// Presence of a `Gateway`.
    pub(crate) gateway: Gateway,
    /// Files with objects of unsupported kinds, and those kinds.
    pub(crate) unread: Vec<(PathBuf, String)>,
}

/// Files that are applied one after the other, by their paths below the folder of all samples.
pub(crate) struct Set {
    pub(crate) files: Vec<PathBuf>,
}

/// Presence of a `Gateway` in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// A file has a `Gateway`.
    Present,
    /// No file has one.
    Absent,
}

/// A file of a sample.
struct File {
    path: PathBuf,
    objects: Vec<Value>,
}

/// File names of a sample: its services, and files that others depend on.
struct SampleLayout {
    services: &'static str,
    /// Applied before files that hold nothing but `VirtualService`s.
    before_routes: &'static [&'static str],
}

// === impl Sample ===

impl Sample {
    /// Reads the manifests of a sample.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Self> {
        let plan = plan(name)?;
        let mut files = Vec::new();
        collect(folder, Path::new(name), &mut files)?;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let unread = files.iter().filter_map(|file| Some((file.path.clone(), file.unread()?))).collect();
        let read: Vec<File> = files.into_iter().filter(File::is_read).collect();
        let services = Path::new(name).join(plan.services);
        let (platform, rules): (Vec<&File>, Vec<&File>) = read.iter().partition(|file| file.has_workloads());
        let mut sets: Vec<Set> = platform.iter().map(|file| Set::of([file.path.clone()])).collect();
        sets.sort_by_key(|set| !set.files.contains(&services));
        sets.extend(rules.iter().map(|file| Set::of([services.clone(), file.path.clone()])));
        for file in rules.iter().filter(|file| file.is_routes_alone()) {
            let before = plan.before_routes.iter().map(|path| Path::new(name).join(path));
            let files: Vec<PathBuf> =
                [services.clone()].into_iter().chain(before).chain([file.path.clone()]).collect();
            if files.len() > 2 {
                sets.push(Set::of(files));
            }
        }
        if platform.len() + rules.len() > 2 {
            sets.push(Set::of(platform.iter().chain(&rules).map(|file| file.path.clone())));
        }
        let has_gateway = rules
            .iter()
            .flat_map(|file| &file.objects)
            .any(|object| is_read(object) && kind(object) == "Gateway");
        Ok(Self { sets, gateway: if has_gateway { Gateway::Present } else { Gateway::Absent }, unread })
    }
}

fn plan(name: &str) -> Result<SampleLayout> {
    Ok(match name {
        "bookinfo" => SampleLayout {
            services: "platform/kube/bookinfo.yaml",
            before_routes: &["networking/destination-rule-all.yaml"],
        },
        "httpbin" => SampleLayout { services: "httpbin.yaml", before_routes: &[] },
        "helloworld" => SampleLayout { services: "helloworld.yaml", before_routes: &[] },
        "sleep" => SampleLayout { services: "sleep.yaml", before_routes: &[] },
        "curl" => SampleLayout { services: "curl.yaml", before_routes: &[] },
        "tcp-echo" => {
            SampleLayout { services: "tcp-echo-services.yaml", before_routes: &["tcp-echo-all-v1.yaml"] }
        }
        _ => anyhow::bail!("there is no sample {name}"),
    })
}

/// Collects every manifest below a folder of the samples.
fn collect(root: &Path, below: &Path, files: &mut Vec<File>) -> Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            let objects = objects(root, &path)?;
            // Files without metadata configure other programs.
            if objects.iter().any(|object| object.get("metadata").is_some()) {
                files.push(File { path, objects });
            }
        }
    }
    Ok(())
}

/// Returns the documents of a file that are not empty.
pub(crate) fn objects(root: &Path, path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(root.join(path)).with_context(|| format!("read {}", path.display()))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("read {}", path.display()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Returns the kind, for example `VirtualService`.
pub(crate) fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// Returns the API group, for example `networking.istio.io`; empty for the core group.
fn group(object: &Value) -> &str {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    version.split_once('/').map_or("", |(group, _)| group)
}

/// Returns true if the control plane reads this kind.
pub(crate) fn is_read(object: &Value) -> bool {
    match group(object) {
        "" | "discovery.k8s.io" => READ.contains(&kind(object)),
        group => ["networking.istio.io", "telemetry.istio.io"].contains(&group),
    }
}

// === impl File ===

impl File {
    /// Returns true if the control plane reads an object of the file, or the file has workloads.
    fn is_read(&self) -> bool {
        self.objects.iter().any(is_read) || self.has_workloads()
    }

    fn has_workloads(&self) -> bool {
        self.objects.iter().any(|object| ["Service", "Deployment"].contains(&kind(object)))
    }

    fn is_routes_alone(&self) -> bool {
        self.objects.iter().all(|object| kind(object) == "VirtualService")
    }

    /// Returns the unsupported kinds, except those that only describe workloads.
    fn unread(&self) -> Option<String> {
        const OF_WORKLOADS: [&str; 3] = ["Deployment", "Secret", "ServiceAccount"];
        let unread = |object: &&Value| !is_read(object) && !OF_WORKLOADS.contains(&kind(object));
        let unread: Vec<&Value> = self.objects.iter().filter(unread).collect();
        let kinds: BTreeSet<&str> = unread.iter().map(|object| kind(object)).collect();
        let is_gateway_api = unread.iter().any(|object| group(object) == "gateway.networking.k8s.io");
        let why = if is_gateway_api { "Gateway API: " } else { "" };
        let kinds: Vec<&str> = kinds.into_iter().collect();
        (!kinds.is_empty()).then(|| format!("{why}{}", kinds.join(", ")))
    }
}

// === impl Set ===

impl Set {
    fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect() }
    }
}

impl Display for Set {
    /// Writes the last file, relative to the sample's folder, and the file before it; for more files their number.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let below = |file: &Path| file.components().skip(1).collect::<PathBuf>().display().to_string();
        match self.files.as_slice() {
            [file] | [_, file] => f.pad(&below(file)),
            [_, before, file] => {
                let before = before.file_name().unwrap_or_default().display();
                f.pad(&format!("{}, after {before}", below(file)))
            }
            files => f.pad(&format!("all {} files, one after the other", files.len())),
        }
    }
}
