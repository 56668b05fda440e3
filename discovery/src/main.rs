//! Placeholder: prints what the file source says of a directory.
mod source;

use std::sync::Arc;
use std::time::SystemTime;

use source::file::watch::{FileContent, watch_file};
use source::file::{FileSourceConfig, FileStatus, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let directory = std::env::args_os().nth(1).unwrap_or_default().into();
    let config = FileSourceConfig {
        directory,
        domain_suffix: "cluster.local".into(),
        trust_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        system_namespace: "istio-system".into(),
    };
    let status = Arc::new(FileStatus::default());
    let mesh = watch_file(&config.directory.join("mesh"))?;
    if let FileContent::Text(text) = &*mesh.borrow() {
        println!("mesh: {} bytes", text.len());
    }
    let (sender, mut events) = tokio::sync::mpsc::channel(1024);
    let source = tokio::spawn(run(config, sender, status.clone()));
    while let Some((id, event)) = events.recv().await {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros();
        let mut text = format!("{event:?}");
        text.truncate(60);
        println!("{now} {id} {text}");
    }
    println!("{} rejected: {:?}", status.rejected(), status.problems());
    for (kind, fate, count) in status.events() {
        println!("{} {} {count}", kind.as_str(), fate.as_str());
    }
    source.await?
}
