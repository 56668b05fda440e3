//! Configuration changes: equal content changes nothing, and errors name file and field.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pilot_tests::mesh::END;
use pilot_tests::net::{free_port, get, local};
use pilot_tests::process::exit_description;
use pilot_tests::programs::programs;
use pilot_tests::solo::{Engine, Solo, Stage};
use pilot_tests::wait::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::ENGINES;
use super::hot_restart::{alone, lost_nothing, play, setup, state, traffic, unmoved};

/// A folder as Kubernetes mounts it: files are links through `..data`, which is swapped.
struct Volume<'a>(&'a Path);

impl Volume<'_> {
    fn put(&self, name: &str, content: &str, version: u32) -> Result<()> {
        let folder = format!("..version-{version}");
        fs::create_dir(self.0.join(&folder))?;
        fs::write(self.0.join(&folder).join(name), content)?;
        symlink(&folder, self.0.join("..data_tmp"))?;
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data"))?;
        if version == 1 {
            symlink(format!("..data/{name}"), self.0.join(name))?;
        } else {
            fs::remove_dir_all(self.0.join(format!("..version-{}", version - 1)))?;
        }
        Ok(())
    }
}

/// Waits until the configuration is refused for a reason that has all of these in it.
pub(super) async fn refused(solo: &Solo, parts: &[&str]) -> Result<()> {
    eventually(END, "the configuration is refused", async || {
        let reason = state(solo, "/config/refused/0/reason").await?;
        let told = reason.as_str().unwrap_or_default();
        ensure!(parts.iter().all(|part| told.contains(part)), "{parts:?} are not in {reason}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_written_again_changes_nothing() -> Result<()> {
    play(&setup(Engine::Auto, &[])?, async |play| {
        let changed = Instant::now();
        play.solo.revise(2)?;
        play.solo.serves(2).await?;
        let took = changed.elapsed();
        alone(&play.solo, 2).await?;
        // As a new file, as the same file, and only touched.
        let path = play.dir.path().join("bootstrap.json");
        play.solo.revise(2)?;
        fs::write(&path, fs::read(&path)?)?;
        fs::File::options().append(true).open(&path)?.set_modified(std::time::SystemTime::now())?;
        unmoved(&play.solo, took * 3).await?;
        let config = state(&play.solo, "/config").await?;
        ensure!(config["revision"] == 2 && config["refused"] == json!([]), "{config}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_volume_is_one_hot_restart() -> Result<()> {
    for engine in ENGINES {
        let mount = tempfile::tempdir()?;
        let volume = Volume(mount.path());
        let stage = Stage::start(std::net::Ipv4Addr::LOCALHOST.into()).await?;
        let (front, admin) = (stage.front()?, local(free_port()?));
        let bootstrap = |revision| front.bootstrap(revision, admin).to_string();
        volume.put("custom.json", &bootstrap(1), 1)?;
        let mut setup = setup(engine, &[])?;
        let custom = mount.path().join("custom.json");
        setup.proxy.insert("customConfigFile".into(), custom.display().to_string().into());
        let dir = tempfile::tempdir()?;
        let mut solo = Solo::start(dir.path(), &front, &setup)?;
        solo.ready().await?;
        let traffic = traffic(&front);
        let swapped = Instant::now();
        volume.put("custom.json", &bootstrap(2), 2)?;
        let one = alone(&solo, 2).await.with_context(|| solo.log())?;
        ensure!(one.epoch == 1, "{one:?}");
        // Neither what was left to notice of that swap nor one that brings nothing new.
        let took = swapped.elapsed();
        volume.put("custom.json", &bootstrap(2), 3)?;
        unmoved(&solo, took * 2).await.with_context(|| solo.log())?;
        ensure!(state(&solo, "/config/revision").await? == 2);
        lost_nothing(traffic).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_not_an_empty_one_and_neither_ends_what_serves() -> Result<()> {
    play(&setup(Engine::Auto, &[])?, async |play| {
        let (first, path) = (play.solo.newest()?, play.dir.path().join("bootstrap.json"));
        fs::write(&path, "")?;
        refused(&play.solo, &["bootstrap.json", "is empty"]).await?;
        fs::remove_file(&path)?;
        refused(&play.solo, &["bootstrap.json", "no such file"]).await?;
        ensure!(play.solo.generations()? == [first], "somebody was started or ended");
        play.solo.serves(1).await?;
        play.solo.revise(2)?;
        alone(&play.solo, 2).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_override_at_the_start_is_one_line_and_code_78_and_no_envoy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("override.yaml");
    fs::write(&path, "stats_config:\n  stats_tags: [\n")?;
    let mut setup = setup(Engine::Auto, &[])?;
    setup.environment.push(("ISTIO_BOOTSTRAP_OVERRIDE".into(), path.display().to_string()));
    let stage = Stage::start(std::net::Ipv4Addr::LOCALHOST.into()).await?;
    let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
    let status = solo.exit().await?;
    let log = solo.log();
    ensure!(status.code() == Some(78), "{}\n{log}", exit_description(status));
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines.len() == 1 && lines[0].contains("override.yaml"), "{lines:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_override_at_run_time_is_told_by_file_and_field_while_the_last_good_one_serves() -> Result<()>
{
    for engine in ENGINES {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("override.yaml");
        let good = "stats_flush_interval: 7s\n";
        fs::write(&path, good)?;
        let mut setup = setup(engine, &[])?;
        setup.environment.push(("ISTIO_BOOTSTRAP_OVERRIDE".into(), path.display().to_string()));
        play(&setup, async |play| {
            let (first, traffic) = (play.solo.newest()?, traffic(&play.solo.front));
            // No YAML: the file, and where in it.
            fs::write(&path, "stats_flush_interval: [\n")?;
            refused(&play.solo, &["override.yaml", "line"]).await?;
            // Valid YAML and not a bootstrap: Envoy rejects it, and names the field.
            fs::write(&path, "stats_flush_interval: soon\n")?;
            refused(&play.solo, &["stats_flush_interval"]).await?;
            ensure!(play.solo.generations()? == [first.clone()], "somebody was started or ended");
            fs::write(&path, "stats_flush_interval: 8s\n")?;
            let next = eventually(END, "the good one runs", async || {
                let next = play.solo.newest()?;
                ensure!(next.pid != first.pid, "it is the same one");
                Ok(next)
            });
            ensure!(next.await?.epoch == 1);
            alone(&play.solo, 1).await?;
            lost_nothing(traffic).await
        })
        .await?;
    }
    Ok(())
}

/// Answers one request with this status, and is gone.
async fn answer_once(status: &'static str) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 1024];
        let read = stream.read(&mut request).await?;
        ensure!(read > 0, "no request");
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\nconnection: close\r\n\r\nwhy");
        Ok(stream.write_all(answer.as_bytes()).await?)
    });
    Ok(port)
}

async fn request(port: u16, path: &str) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(&programs()?.agent);
    command.args(["request", "--debug-port", &port.to_string(), "GET", path]).env_clear();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn request_takes_404_for_an_answer_and_500_for_a_failure() -> Result<()> {
    for (status, code, printed) in [
        ("200 OK", 0, "why\n"),
        ("404 Not Found", 0, "why\n"),
        ("500 Internal Server Error", 1, ""),
        ("503 Service Unavailable", 1, ""),
    ] {
        let seen = request(answer_once(status).await?, "/anything").await?;
        ensure!(seen == (Some(code), printed.to_owned()), "{status}: {seen:?}");
    }
    // The real ones.
    play(&setup(Engine::Auto, &[])?, async |play| {
        let (status, _) = get(play.solo.status, "/nowhere").await?;
        ensure!(status == 404, "{status}");
        ensure!(request(play.solo.status.port(), "nowhere").await?.0 == Some(0));
        let (code, printed) = request(play.solo.admin.port(), "server_info").await?;
        ensure!(code == Some(0) && printed.contains("LIVE"), "{code:?} {printed}");
        Ok(())
    })
    .await?;
    ensure!(request(free_port()?, "/").await?.0 == Some(1), "nobody is there");
    Ok(())
}
