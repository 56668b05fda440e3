//! A new Envoy takes over from a running one.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::load::{Class, Load, Traffic};
use pilot_tests::mesh::END;
use pilot_tests::solo::{Engine, Front, Generation, Setup, Solo, Stage};
use pilot_tests::wait::eventually;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use super::ENGINES;

/// One agent, and what it needs.
pub(super) struct Play {
    pub(super) solo: Solo,
    /// Endpoints behind the proxy.
    _stage: Stage,
    pub(super) dir: TempDir,
}

/// Returns an agent with this mode, these flags and a debug log.
pub(super) fn setup(engine: Engine, flags: &[&str]) -> Result<Setup> {
    let mut setup = Setup::with_engine(engine)?;
    setup.flags = flags.iter().map(ToString::to_string).collect();
    setup.flags.push("--log_output_level=default:debug".into());
    setup.proxy.insert("parentShutdownDuration".into(), "4s".into());
    Ok(setup)
}

/// Runs a scenario with an agent that is ready. A failure includes the agent's log.
pub(super) async fn play(setup: &Setup, story: impl AsyncFnOnce(&mut Play) -> Result<()>) -> Result<()> {
    let (dir, stage) = (tempfile::tempdir()?, Stage::start(Ipv4Addr::LOCALHOST.into()).await?);
    let solo = Solo::start(dir.path(), &stage.front()?, setup)?;
    let mut play = Play { solo, _stage: stage, dir };
    play.solo.ready().await?;
    let told = story(&mut play).await;
    told.with_context(|| format!("with {:?}:\n{}", setup.engine, play.solo.log()))
}

/// Enough load to notice a gap of some milliseconds, and little enough for many tests beside each other.
pub(super) fn traffic(front: &Front) -> Traffic {
    let light = |class| Load { clients: 1, think: Duration::from_millis(10), ..front.load(class) };
    let classes = [("new", Class::New), ("keep-alive", Class::KeepAlive), ("tcp", Class::Tcp)];
    Traffic::start(classes.map(|(name, class)| (name, light(class))))
}

/// Ends it; an error if any request failed.
pub(super) async fn lost_nothing(traffic: Traffic) -> Result<()> {
    for (name, report) in traffic.stop().await? {
        report.ensure_no_failures().context(name)?;
    }
    Ok(())
}

/// Returns a value of `/lifecycle`.
pub(super) async fn state(solo: &Solo, pointer: &str) -> Result<Value> {
    let all = solo.lifecycle().await?;
    all.pointer(pointer).cloned().with_context(|| format!("{pointer} is not in {all}"))
}

/// Waits until one Envoy is left, and it has this revision.
pub(super) async fn alone(solo: &Solo, revision: u32) -> Result<Generation> {
    crowd_until(solo, revision).await.map(|(_, one)| one)
}

/// The same; how many Envoys there were at most meanwhile, and the one that is left.
async fn crowd_until(solo: &Solo, revision: u32) -> Result<(usize, Generation)> {
    let mut most = 0;
    // A start, and the time an old one has.
    let one = eventually(END * 2, "the revision is alone", async || {
        let generations = solo.generations()?;
        most = most.max(generations.len());
        let [one] = generations.as_slice() else { anyhow::bail!("{generations:?}") };
        let now = solo.front.revision().await?;
        ensure!(now == revision, "revision {now}");
        Ok(one.clone())
    });
    let one = one.await.with_context(|| format!("revision {revision}"))?;
    Ok((most, one))
}

/// Nothing is started or ended for this long: longer than what would have done it takes.
pub(super) async fn unmoved(solo: &Solo, quiet: Duration) -> Result<()> {
    let (before, began) = (solo.generations()?, Instant::now());
    while began.elapsed() < quiet {
        let now = solo.generations()?;
        ensure!(now == before, "{before:?} became {now:?} after {:?}", began.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Waits until there are two.
pub(super) async fn both(solo: &Solo) -> Result<(Generation, Generation)> {
    eventually(END, "a second generation", async || {
        let generations = solo.generations()?;
        let [old, new] = generations.as_slice() else { anyhow::bail!("{generations:?}") };
        Ok((old.clone(), new.clone()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_bootstrap_takes_over_under_load_and_nobody_loses_a_request() -> Result<()> {
    for engine in ENGINES {
        let story = async |play: &mut Play| {
            let traffic = Traffic::start(play.solo.front.mix()?);
            for revision in 2..5 {
                play.solo.revise(revision)?;
                let one = alone(&play.solo, revision).await?;
                ensure!(one.epoch == revision - 1, "{one:?}");
            }
            play.solo.check()?;
            lost_nothing(traffic).await
        };
        play(&setup(engine, &[])?, story).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_quick_changes_make_two_generations_at_most_and_the_last_one_wins() -> Result<()> {
    for engine in ENGINES {
        let story = async |play: &mut Play| {
            let traffic = traffic(&play.solo.front);
            play.solo.revise(2)?;
            let (_, second) = both(&play.solo).await?;
            // While that one rises.
            play.solo.revise(3)?;
            play.solo.revise(4)?;
            let (most, one) = crowd_until(&play.solo, 4).await?;
            ensure!(most <= 2, "{most} generations");
            ensure!((second.epoch, one.epoch) == (1, 2), "{second:?} {one:?}");
            let seen = traffic.report().by_revision();
            ensure!(!seen.contains_key(&3), "the one in between ran: {seen:?}");
            lost_nothing(traffic).await
        };
        play(&setup(engine, &[])?, story).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_triggers_at_once_are_hand_overs_one_after_the_other() -> Result<()> {
    for engine in ENGINES {
        let story = async |play: &mut Play| {
            let traffic = traffic(&play.solo.front);
            let first = play.solo.newest()?;
            play.solo.signal(Signal::SIGHUP)?;
            play.solo.restart().await?;
            play.solo.revise(2)?;
            let (most, one) = crowd_until(&play.solo, 2).await?;
            ensure!(most <= 2, "{most} generations");
            ensure!(one.pid != first.pid && (1..=3).contains(&one.epoch), "{one:?}");
            let exits = state(&play.solo, "/exits").await?;
            let peaceful = |exit: &Value| exit["reason"] == "handed_over";
            ensure!(exits.as_array().is_some_and(|exits| exits.iter().all(peaceful)), "{exits}");
            lost_nothing(traffic).await
        };
        play(&setup(engine, &[])?, story).await?;
    }
    Ok(())
}

/// A copy of Envoy that does the same and is not the same.
fn put_envoy(real: &Path, path: &Path, mark: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut content = fs::read(real)?;
    // The kernel ignores bytes after the last section of a program.
    content.extend_from_slice(mark);
    fs::write(&partial, content)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755))?;
    fs::rename(&partial, path).context("put a program in its place")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_replaced_in_place_takes_over_and_its_own_copy_does_not() -> Result<()> {
    for engine in ENGINES {
        let binaries = tempfile::tempdir()?;
        let mut setup = setup(engine, &[])?;
        let (real, path) = (setup.envoy.clone(), binaries.path().join("envoy"));
        put_envoy(&real, &path, b"one")?;
        setup.envoy.clone_from(&path);
        let story = async |play: &mut Play| {
            let traffic = traffic(&play.solo.front);
            let first = play.solo.newest()?;
            let put = Instant::now();
            put_envoy(&real, &path, b"two")?;
            let next = eventually(END, "the new program runs", async || {
                let next = play.solo.newest()?;
                ensure!(next.epoch == first.epoch + 1, "{next:?}");
                Ok(next)
            });
            let next = next.await?;
            let took = put.elapsed();
            let one = alone(&play.solo, 1).await?;
            ensure!(one == next, "{one:?}, not {next:?}");
            let runs = fs::read_link(format!("/proc/{}/exe", one.pid))?;
            ensure!(runs == path, "it runs {}", runs.display());

            put_envoy(&real, &path, b"two")?;
            unmoved(&play.solo, took * 2).await?;
            lost_nothing(traffic).await
        };
        play(&setup, story).await?;
    }
    Ok(())
}
